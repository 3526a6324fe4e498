"""ESP for Child SAs: in the kernel through XFRM, or in this process over a TUN device."""
