"""IANA's IKEv2 numbers that `oe` speaks about. Any other number stays what it is: a member without a name.

Registry: "Internet Key Exchange Version 2 (IKEv2) Parameters". Numbers are RFC 7296's unless a line says otherwise.
"""

from enum import IntEnum
from typing import Self


class Registry(IntEnum):
    """A table of numbers that may grow: `cls(number)` never fails for a number that is not negative.

    Members that the table does not list compare equal by number, and are not kept.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


class ExchangeType(Registry):
    """Header field "Exchange Type", 8 bits (RFC 7296 3.1)."""

    IKE_SA_INIT = 34
    IKE_AUTH = 35
    CREATE_CHILD_SA = 36
    INFORMATIONAL = 37
    IKE_INTERMEDIATE = 43  # RFC 9242
    IKE_FOLLOWUP_KE = 44  # RFC 9370


class PayloadType(Registry):
    """Field "Next Payload", 8 bits (RFC 7296 3.2)."""

    NONE = 0
    SA = 33
    KE = 34
    ID_I = 35
    ID_R = 36
    CERT = 37
    CERTREQ = 38
    AUTH = 39
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    VENDOR = 43
    TS_I = 44
    TS_R = 45
    SK = 46
    CP = 47
    EAP = 48
    SKF = 53  # RFC 7383


class NotifyType(Registry):
    """Notify Message Type, 16 bits: below 16384 an error, from there on a status (RFC 7296 3.10.1)."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    INVALID_SPI = 11
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    SINGLE_PAIR_REQUIRED = 34
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    FAILED_CP_REQUIRED = 37
    TS_UNACCEPTABLE = 38
    INVALID_SELECTORS = 39
    TEMPORARY_FAILURE = 43
    CHILD_SA_NOT_FOUND = 44
    STATE_NOT_FOUND = 47  # RFC 9370
    INITIAL_CONTACT = 16384
    SET_WINDOW_SIZE = 16385
    ADDITIONAL_TS_POSSIBLE = 16386
    IPCOMP_SUPPORTED = 16387
    NAT_DETECTION_SOURCE_IP = 16388
    NAT_DETECTION_DESTINATION_IP = 16389
    COOKIE = 16390
    USE_TRANSPORT_MODE = 16391
    HTTP_CERT_LOOKUP_SUPPORTED = 16392
    REKEY_SA = 16393
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394
    NON_FIRST_FRAGMENTS_ALSO = 16395
    MOBIKE_SUPPORTED = 16396  # RFC 4555
    REDIRECT_SUPPORTED = 16406  # RFC 5685
    CHILDLESS_IKEV2_SUPPORTED = 16418  # RFC 6023
    QUICK_CRASH_DETECTION = 16419  # RFC 6290
    FRAGMENTATION_SUPPORTED = 16430  # RFC 7383
    SIGNATURE_HASH_ALGORITHMS = 16431  # RFC 7427
    INTERMEDIATE_EXCHANGE_SUPPORTED = 16438  # RFC 9242
    ADDITIONAL_KEY_EXCHANGE = 16441  # RFC 9370

    @property
    def is_error(self) -> bool:
        return self < 16384


class ProtocolId(Registry):
    """Security Protocol Identifiers, 8 bits (RFC 7296 3.3.1). 0 stands in notifies that are about no SA."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3


class TransformType(Registry):
    """What a transform is about, 8 bits (RFC 7296 3.3.2)."""

    ENCRYPTION = 1
    PRF = 2
    INTEGRITY = 3
    KEY_EXCHANGE = 4
    ESN = 5
    ADDITIONAL_KEY_EXCHANGE_1 = 6  # to 7: RFC 9370
    ADDITIONAL_KEY_EXCHANGE_2 = 7
    ADDITIONAL_KEY_EXCHANGE_3 = 8
    ADDITIONAL_KEY_EXCHANGE_4 = 9
    ADDITIONAL_KEY_EXCHANGE_5 = 10
    ADDITIONAL_KEY_EXCHANGE_6 = 11
    ADDITIONAL_KEY_EXCHANGE_7 = 12


class EncryptionId(Registry):
    """Transform Type 1, 16 bits. Those we refuse have a name so that the log can say what was offered."""

    DES = 2
    TRIPLE_DES = 3
    NULL = 11
    AES_CBC = 12
    AES_CTR = 13
    AES_CCM_8 = 14
    AES_CCM_12 = 15
    AES_CCM_16 = 16
    AES_GCM_8 = 18
    AES_GCM_12 = 19
    AES_GCM_16 = 20  # RFC 5282, RFC 4106
    CAMELLIA_CBC = 23
    CHACHA20_POLY1305 = 28  # RFC 7634


class PrfId(Registry):
    """Transform Type 2, 16 bits."""

    HMAC_MD5 = 1
    HMAC_SHA1 = 2
    AES128_XCBC = 4
    HMAC_SHA2_256 = 5  # RFC 4868
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7
    AES128_CMAC = 8


class IntegrityId(Registry):
    """Transform Type 3, 16 bits. With an AEAD only NONE is legal (RFC 7296 3.3)."""

    NONE = 0
    HMAC_SHA1_96 = 2
    AES_XCBC_96 = 5
    HMAC_SHA2_256_128 = 12
    HMAC_SHA2_384_192 = 13
    HMAC_SHA2_512_256 = 14


class KeyExchangeId(Registry):
    """Transform Type 4, 16 bits; also the Key Exchange payload's "Key Exchange Method"."""

    NONE = 0
    MODP_768 = 1
    MODP_1024 = 2
    MODP_1536 = 5
    MODP_2048 = 14  # RFC 3526
    MODP_3072 = 15
    MODP_4096 = 16
    MODP_8192 = 18
    ECP_256 = 19  # RFC 5903
    ECP_384 = 20
    ECP_521 = 21
    CURVE25519 = 31  # RFC 8031
    CURVE448 = 32
    ML_KEM_512 = 35
    ML_KEM_768 = 36
    ML_KEM_1024 = 37


class EsnId(Registry):
    """Transform Type 5, 16 bits: how ESP sequence numbers count."""

    NO_ESN = 0
    ESN = 1


class AuthMethod(Registry):
    """Authentication Method of an AUTH payload, 8 bits (RFC 7296 3.8)."""

    RSA_SHA1 = 1
    SHARED_KEY_MIC = 2
    DSS_SHA1 = 3
    ECDSA_SHA2_256_P256 = 9  # RFC 4754
    ECDSA_SHA2_384_P384 = 10
    ECDSA_SHA2_512_P521 = 11
    NULL = 13  # RFC 7619
    DIGITAL_SIGNATURE = 14  # RFC 7427


class HashId(Registry):
    """IKEv2 Hash Algorithms, 16 bits (RFC 7427 7, RFC 8420)."""

    SHA1 = 1
    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5


class TsType(Registry):
    """Traffic Selector Types, 8 bits (RFC 7296 3.13.1)."""

    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8


class AttributeType(Registry):
    """Transform Attribute Types, 15 bits (RFC 7296 3.3.5)."""

    KEY_LENGTH = 14
