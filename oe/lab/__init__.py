"""A world of network namespaces with real servers, real daemons and real traffic, to see the gateway work."""
