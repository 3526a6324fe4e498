"""Our gateway and other people's IKE daemons, with real ESP between them: see docs/interop.md."""
