//! Of targets and of the way to the server.

cases! {
    TARGET_FINE "target-fine" Fine
        "it accepts connections, after {0} ms" | "接受连接，用时 {0} 毫秒";
        "" | "";
        "" | ""
    TARGET_REFUSES "target-refuses" Warning
        "nothing listens there" | "那里没有程序监听";
        "the service is not started, listens at another address or port, or a firewall refuses" | "服务未启动、监听其他地址或端口，或被防火墙拒绝";
        "start the service, or correct the target; where this is the port of users of a tunnel, it has to be free" | "启动服务或改正目标；如果这是隧道用户的入口端口，它本来就应空闲"
    TARGET_SILENT "target-silent" Warning
        "it does not answer" | "没有响应";
        "the address may be wrong, or a firewall drops what goes there" | "地址可能有误，或被防火墙丢弃";
        "see whether this machine reaches it otherwise (ping, traceroute), and open the firewall" | "用 ping、traceroute 确认本机能否到达它，并放行防火墙"
    TARGET_UNREACHABLE "target-unreachable" Warning
        "it cannot be reached from here" | "从这里无法到达";
        "{0}" | "{0}";
        "see `ip route get ADDRESS`; with dial= the source address has to be one of this machine's" | "查看 `ip route get 地址`；使用 dial= 时，源地址必须属于本机"
    TARGET_DATAGRAMS "target-datagrams" Note
        "nothing refuses datagrams; whether a service listens, only its own protocol can tell" | "没有拒绝数据报；是否有服务监听，只有其自身协议才能确认";
        "" | "";
        "" | ""
    TARGET_NO_DATAGRAMS "target-no-datagrams" Note
        "nothing listens for datagrams there" | "那里没有程序接收数据报";
        "" | "";
        "noudp=1 leaves UDP out where the service has TCP only" | "若该服务只有 TCP，可用 noudp=1 关闭 UDP"

    SERVER_REACHED "server-reached" Fine
        "a connection takes {0} ms" | "建立连接用时 {0} 毫秒";
        "" | "";
        "" | ""
    SERVER_UNREACHABLE "server-unreachable" Fault
        "the server cannot be reached at this address" | "无法通过此地址到达服务端";
        "{0}" | "{0}";
        "see whether the server runs and its port is open: firewalls of both machines, security groups, port forwarding. {1}" | "确认服务端在运行且端口已放行：两端防火墙、安全组、端口转发。{1}"
    SERVER_OURS "server-ours" Fine
        "a NodePass server of this kind answers" | "应答的是本程序的服务端";
        "" | "";
        "" | ""
    SERVER_ORIGINAL "server-original" Note
        "an original NodePass answers ({0})" | "应答的是原版 NodePass（{0}）";
        "" | "";
        "see docs/security.md for what such a tunnel cannot protect" | "这样的隧道不能保护什么，见 docs/security.md"
    SERVER_OLD "server-old" Warning
        "an original NodePass of an old version answers (1.12)" | "应答的是旧版原版 NodePass（1.12）";
        "its handshake proves nothing" | "它的握手不能证明任何事";
        "update the server" | "升级服务端"
    SERVER_WEB "server-web" Fault
        "a web server answers, and no NodePass: {0}" | "应答的是网页服务器而非 NodePass：{0}";
        "another program has that port, or a reverse proxy does not hand the path / on" | "该端口属于其他程序，或反向代理没有转发路径 /";
        "correct host and port, or the proxy's rules: docs/transports.md" | "改正主机和端口，或代理规则：见 docs/transports.md"
    SERVER_PROXY "server-proxy" Fault
        "a reverse proxy answers, and does not reach the server behind it: {0}" | "反向代理有应答，但到不了其后的服务端：{0}";
        "the server does not run, or the proxy has another address for it" | "服务端未运行，或代理配置的地址不对";
        "run `nodepass check` on the server, and compare the proxy's upstream with the server's port" | "在服务端运行 `nodepass check`，并核对代理的上游地址与服务端端口"
    SERVER_TLS "server-tls" Note
        "it speaks TLS only, and a certificate is shown before anything else" | "它只接受 TLS，先出示证书";
        "" | "";
        "" | ""
    SERVER_MUTE "server-mute" Warning
        "it closes connections without a word" | "它不作应答就关闭连接";
        "it is no NodePass of 1.13 or later, or the server has closed this address out for wrong keys" | "它不是 1.13 及以后的 NodePass，或服务端因密钥错误暂时拒绝了本地址";
        "see the server's log; after wrong keys wait ten minutes" | "查看服务端日志；密钥错误之后请等待十分钟"
    SERVER_OTHER "server-other" Fault
        "another program answers: {0}" | "应答的是其他程序：{0}";
        "that port is not a tunnel's" | "该端口不属于隧道";
        "correct host and port" | "改正主机和端口"
    SERVER_TUNNEL "server-tunnel" Fine
        "{0} connections of this machine lead there already: it is not asked" | "本机已有 {0} 个连接通向那里，因此不再询问";
        "" | "";
        "" | ""
    CLOCK_APART "clock-apart" Warning
        "its clock and this machine's differ by {0} s" | "它的时钟与本机相差 {0} 秒";
        "certificates seem expired, or not yet valid, where clocks are wrong" | "时钟不准时，证书会显得已过期或尚未生效";
        "synchronize both: timedatectl set-ntp true" | "同步两端时钟：timedatectl set-ntp true"
    SERVER_QUIC "server-quic" Fine
        "QUIC answers: type=1 works over UDP" | "QUIC 有应答：type=1 可经 UDP 工作";
        "" | "";
        "" | ""
    SERVER_NO_QUIC "server-no-quic" Note
        "nothing listens for UDP there" | "那里没有程序接收 UDP";
        "" | "";
        "a pool of type=1 (QUIC) needs UDP on the server's port; until then it comes over TCP" | "type=1（QUIC）连接池需要服务端端口的 UDP；在此之前走 TCP"
    SERVER_UDP_SILENT "server-udp-silent" Note
        "UDP is not refused; whether QUIC gets through, a server tells only its clients" | "UDP 未被拒绝；QUIC 能否通过，服务端只告知其客户端";
        "" | "";
        "with type=1 the client's log says whether its pool comes over QUIC or over TCP" | "使用 type=1 时，客户端日志会说明连接池走 QUIC 还是 TCP"
    SERVER_PROXIED "server-proxied" Note
        "the server is called through the proxy of HTTPS_PROXY, {0}" | "通过 HTTPS_PROXY 的代理 {0} 连接服务端";
        "" | "";
        "" | ""
}
