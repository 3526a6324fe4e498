"""pcap files as other tools read them, and the packet socket itself."""

from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from oe.lab.capture import Frame, write_pcaps


def test_pcap_files_are_readable_by_others(tmp_path: Path) -> None:
    data = bytes(Ether() / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / b"hello")
    time = 1_700_000_000_123_456_789
    write_pcaps([Frame(time, "to-a", data), Frame(time + 1, "to-b", data), Frame(time + 2, "to-a", data)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["to-a.pcap", "to-b.pcap"]
    first, second = rdpcap(str(tmp_path / "to-a.pcap"))
    assert bytes(first) == data
    assert first[UDP].dport == 2
    assert int(first.time * 1_000_000_000) == time
    assert int(second.time * 1_000_000_000) == time + 2
