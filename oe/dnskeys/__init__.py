"""Who answers IKE for an address, and with which key: asked of DNS, graded by DNSSEC."""
