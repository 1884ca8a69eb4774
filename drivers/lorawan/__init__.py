"""LoRaWAN: uplinks from packet forwarders and from wired nodes, decoded here with the city's own keys."""
