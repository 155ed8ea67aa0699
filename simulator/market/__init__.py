"""The tape: candles, the path inside a candle, and where candles come from. Pure; prices are 1e-8 units."""
