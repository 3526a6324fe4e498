"""IKEv2 (RFC 7296), as little of it as opportunistic encryption needs, and that strictly.

Stateless, reading upwards; every value is frozen, every decoder gives a value or `ParseError`:

    registry     IANA's numbers, unknown ones included
    sa_payload   proposals and transforms
    ts_payload   traffic selectors
    payloads     all payloads: what stands inside, and how it is encoded
    message      header, chain of payloads, the Encrypted payload
    fragments    a large message as several small ones
    rules        which payloads a message may and must have, as data
    proposals    what we offer and accept, and what was agreed
    crypto       PRF, prf+, AEAD
    kex          key exchange: our half of a Diffie-Hellman
    kem          the additional one: key encapsulation
    publickeys   from a published key to one that verifies
    keymat       from a shared secret to the keys of an IKE SA and of a Child SA
    auth         what is signed, how a signature is named on the wire, whether it is good
    intauth      how it covers the messages of IKE_INTERMEDIATE
    nat          NAT detection: hashes of addresses

Stateful, on top of it; time comes in with each call, and what is to be done outside comes out as values:

    window       message IDs, repetition, the kept answer
    states       the lives of an IKE SA and of a Child SA, and what is heard when, as tables
    collisions   what is told to a peer that asks while we are at work on the same SA, as a table
    child        one host pair's selectors; what an IKE SA remembers of a Child SA; which of two goes
    sa           one IKE SA
    settings     timers and limits
    cookies      who has shown that it receives at its address
    limits       gauges of what strangers cost: counts, levels, a rate
    admission    who may cost us a key exchange
    context      what all IKE SAs share: books, tickets, output
    channel      an IKE SA as a channel: send, respond, end
    succession   one IKE SA takes over from another
    reach        where a peer is reached, also one whose mapping moves
    exchanges/   a file for each exchange and role
    recovery     after a crash: tokens, and INITIAL_CONTACT
    strays       messages of no IKE SA of ours
    inbound      the gates on a datagram's way in
    endpoint     the engine and its five verbs
    rehearsal    a handshake with ourselves, at the start

Nothing of that reads a clock, opens a socket or makes its own chance: entropy is a parameter. `udp` has the sockets.
"""
