"""Hypothesis strategies for IKE values, shared by the tests of decoders."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from oe.ike.message import Header
from oe.ike.payloads import (
    AuthPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    Proposal,
    SaPayload,
    TrafficSelector,
    Transform,
    TsPayload,
    UnknownPayload,
    VendorPayload,
)
from oe.ike.registry import (
    AuthMethod,
    ExchangeType,
    KeyExchangeId,
    NotifyType,
    PayloadType,
    ProtocolId,
    TransformType,
)

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
octets = st.binary(max_size=80)

transforms = st.builds(Transform, u8.map(TransformType), u16, st.none() | u16)
proposals = st.builds(
    Proposal, u8, u8.map(ProtocolId), st.binary(max_size=8), st.lists(transforms, max_size=5).map(tuple)
)
sa_payloads = st.builds(SaPayload, st.lists(proposals, min_size=1, max_size=4).map(tuple))

addresses = st.one_of(
    st.tuples(u32.map(IPv4Address), u32.map(IPv4Address)),
    st.tuples(st.integers(0, 2**128 - 1).map(IPv6Address), st.integers(0, 2**128 - 1).map(IPv6Address)),
)
selectors = st.builds(
    lambda protocol, first, last, ends: TrafficSelector(protocol, first, last, *ends), u8, u16, u16, addresses
)
ts_payloads = st.builds(
    TsPayload,
    st.sampled_from([PayloadType.TS_I, PayloadType.TS_R]),
    st.lists(selectors, min_size=1, max_size=4).map(tuple),
)
id_payloads = st.builds(
    IdPayload, st.sampled_from([PayloadType.ID_I, PayloadType.ID_R]), st.binary(min_size=4, max_size=40)
)
delete_payloads = st.one_of(
    st.just(DeletePayload(ProtocolId.IKE)),
    st.builds(DeletePayload, st.just(ProtocolId.ESP), st.lists(u32, max_size=4).map(tuple)),
)
unknown_payloads = st.builds(
    UnknownPayload,
    st.sampled_from([PayloadType.CERTREQ, PayloadType.CP, PayloadType(1), PayloadType(200)]),
    st.booleans(),
    octets,
)
payloads: st.SearchStrategy[Payload] = st.one_of(
    sa_payloads,
    st.builds(KePayload, u16.map(KeyExchangeId), octets),
    st.builds(NoncePayload, st.binary(min_size=16, max_size=256)),
    id_payloads,
    st.builds(AuthPayload, u8.map(AuthMethod), octets),
    st.builds(NotifyPayload, u16.map(NotifyType), octets, u8.map(ProtocolId), st.binary(max_size=8)),
    delete_payloads,
    st.builds(VendorPayload, octets),
    ts_payloads,
    unknown_payloads,
)
chains = st.lists(payloads, max_size=6).map(tuple)
headers = st.builds(Header, u64, u64, u8.map(ExchangeType), st.booleans(), st.booleans(), u32, st.integers(0x20, 0x2F))
