"""A local exchange that speaks Binance USDⓈ-M Futures: matching, accounts, REST, streams, flow."""
