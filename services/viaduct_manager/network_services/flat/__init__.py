"""`Flat`: services on every host that has NICs, each serving its own."""
