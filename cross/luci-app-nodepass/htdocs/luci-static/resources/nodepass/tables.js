// Made from the tables of the program by `make pages`.
'use strict';
'require baseclass';

return baseclass.extend({
	// name, meaning, default, what is accepted, words to choose from, who takes it
	parameters: [
		["log","least level of the lines shown","info","none, debug, info, warn, error or event",["none","debug","info","warn","error","event"],["server","client","master"]],
		["tls","0 plain, 1 self-signed certificate made in memory, 2 certificate files; at a client in a tunnel the least that the server may offer, without a server its listener's","0","0, 1 or 2",["0","1","2"],["server","client","master"]],
		["crt","PEM certificate chain for tls=2",null,"a path",[],["server","client","master"]],
		["key","PEM private key for tls=2",null,"a path",[],["server","client","master"]],
		["dns","how long a resolved name is kept; 0 asks each time","5m","a duration from 1ms to 8760h such as 30s, 5m or 1h30m, or 0",[],["server","client"]],
		["sni","TLS server name and HTTP Host of the handshake; without it the tunnel host if that is a name, else none",null,"a host name",[],["client"]],
		["lbs","which of several targets: 0 round robin, 1 lowest latency, 2 primary and backups","0","0, 1 or 2",["0","1","2"],["server","client"]],
		["auth","which handshake: 0 NodePass 1.14's, which who listens once can use, 1 the authenticated one and 1.14's with programs that know no other, 2 the authenticated one only","1","0, 1 or 2",["0","1","2"],["server","client"]],
		["wire","which originals are spoken with: auto all from 1.13 on, as the peer shows its own; else that generation alone, and no authenticated handshake","auto","auto, 1.13, 1.14, 2.0b8 or 2.0",["auto","1.13","1.14","2.0b8","2.0"],["server","client"]],
		["min","pool size kept warm","64","a number from 1 to 65535",[],["client"]],
		["max","pool size limit, told to the client","1024","a number from 1 to 65535",[],["server"]],
		["clients","clients at once, beyond which a newcomer takes a tunnel over; 0 no limit","1","a number from 0 to 65535",[],["server"]],
		["mode","server: 1 users come in here, 2 users come in at the client; client: 1 no server (single-end), 2 tunnel; 0 decides by trying to listen","0","0, 1 or 2",["0","1","2"],["server","client"]],
		["quic","older spelling: 1 is type=1",null,"0 or 1",["0","1"],["server"]],
		["type","pool transport, told to the client: 0 TCP, 1 QUIC, 2 WebSocket, 3 HTTP/2; all but 0 raise tls=0 to 1","0","0, 1, 2 or 3",["0","1","2","3"],["server"]],
		["dial","local source address for dialling targets","auto","auto or an IP address",["auto"],["server","client"]],
		["read","a TCP connection idle for this long in both directions is closed; 0 never","0","a duration from 1ms to 8760h such as 30s, 5m or 1h30m, or 0",[],["server","client"]],
		["rate","limit in Mbit/s for each direction, shared by all connections; 0 none","0","a number from 0 to 1000000",[],["server","client"]],
		["slot","user connections and UDP sessions at once; 0 no limit","65536","a number from 0 to 1000000000",[],["server","client"]],
		["proxy","1 sends a PROXY protocol v1 header to TCP targets first","0","0 or 1",["0","1"],["server","client"]],
		["block","refuse user connections that open with 1 SOCKS4/5, 2 HTTP, 3 TLS; digits combine, 0 none","0","digits from 0 to 3, as in 13",[],["server","client"]],
		["notcp","1 does not carry TCP","0","0 or 1",["0","1"],["server","client"]],
		["noudp","1 does not carry UDP","0","0 or 1",["0","1"],["server","client"]],
		["cors","which web pages of other origins may use the API","*","origins as in https://a.example,http://b.example:8080, * for all, or none",[],["master"]],
	],
	// name, meaning, default, what is accepted, words to choose from
	variables: [
		["NP_SEMAPHORE_LIMIT","most signals waiting in a queue","65536","a number from 1 to 1048576",[]],
		["NP_TCP_DATA_BUF_SIZE","bytes per relay buffer where data is copied","16384","a number from 1024 to 1048576",[]],
		["NP_UDP_DATA_BUF_SIZE","bytes of the largest datagram; larger ones are dropped and counted, never cut","65535","a number from 512 to 65535",[]],
		["NP_HANDSHAKE_TIMEOUT","the handshake, and the wait for the first pool connection","5s","a duration from 1ms to 8760h",[]],
		["NP_TCP_DIAL_TIMEOUT","dialling a TCP target or the tunnel","5s","a duration from 1ms to 8760h",[]],
		["NP_TCP_KEEPALIVE","silence after which a TCP connection is asked whether it lives; without an answer it ends after as long again; 0 leaves it to the system","30s","a duration from 1ms to 8760h, or 0",[]],
		["NP_UDP_DIAL_TIMEOUT","setting up a UDP target","5s","a duration from 1ms to 8760h",[]],
		["NP_UDP_READ_TIMEOUT","a UDP session idle for this long is closed","30s","a duration from 1ms to 8760h",[]],
		["NP_POOL_GET_TIMEOUT","a user waits this long for a pool connection, then is closed","5s","a duration from 1ms to 8760h",[]],
		["NP_MIN_POOL_INTERVAL","shortest pause between refills of the pool","100ms","a duration from 1ms to 8760h",[]],
		["NP_MAX_POOL_INTERVAL","longest pause between refills; raised to the shortest if it is below","1s","a duration from 1ms to 8760h",[]],
		["NP_REPORT_INTERVAL","period of pings, keep-alives and health checks","5s","a duration from 1ms to 8760h",[]],
		["NP_FALLBACK_INTERVAL","with lbs=2, how often the primary target is tried again","5m","a duration from 1ms to 8760h",[]],
		["NP_QUIC_RETRY_INTERVAL","with type=1, how often QUIC is tried again while UDP is blocked and the pool comes over TCP","1m","a duration from 1ms to 8760h",[]],
		["NP_SERVICE_COOLDOWN","pause before a failed service starts again","3s","a duration from 1ms to 8760h",[]],
		["NP_SHUTDOWN_TIMEOUT","longest graceful stop; 0 stops at once","5s","a duration from 1ms to 8760h, or 0",[]],
		["NP_RELOAD_INTERVAL","how often certificate files are looked at","1h","a duration from 1ms to 8760h",[]],
		["NP_WORKERS","threads that move bytes; without it one per processor core",null,"a number from 1 to 64",[]],
		["NP_STATE_DIR","folder where the master keeps its instances; without it gob beside the executable",null,"a path",[]],
		["NP_BAN_FAILURES","so many wrong keys of one source within a minute ban it; 0 bans nobody","10","a number from 0 to 1000000",[]],
		["NP_BAN_TIME","how long a source is banned; 0 bans nobody","10m","a duration from 1ms to 8760h, or 0",[]],
		["NP_SHOW_KEY","1 logs the master's whole API key at every start, 0 only when it is made","0","0 or 1",["0","1"]],
	]
});
