"""A Binance-Spot-compatible exchange and an OpenAI-compatible model stand-in, as servers.

Nothing here imports the bot and the bot imports nothing from here: they meet over HTTP and WebSocket.

Layers, each importing only those below it:

    server, model      aiohttp: REST, market streams, WS API, control, the market driver
    api                the protocol without its transports
    store, scenario    the crash-safe state file; timetables of faults
    engine             the exchange itself: pure, deterministic, no I/O, time is an argument
    market             candles, the path inside a candle, generated and replayed sources
    faults             armed misbehaviour, as pure as the engine, which asks it
    decimals, clock    ground floor

Two clocks, on purpose. *Market time* dates the tape: candles, klines, public trades. It follows the
recorded file or the generator, at any speed. *Server time* is the wall clock and dates the account side:
`/api/v3/time`, the check of signed timestamps, `transactTime`, user events, orders and own trades.
"""
