"""The protocol of Binance Spot without its transports: REST and the WS API both answer from here."""
