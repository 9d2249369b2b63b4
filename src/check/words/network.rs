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

    BIND_NO_DEVICE "bind-no-device" Fault
        "this machine has no network device of this name (bind=)" | "本机没有这个名称的网络设备（bind=）";
        "it may be misspelt, or not be there yet: a dial-up link, a tunnel" | "名称可能写错，或设备尚未出现：拨号链路、隧道";
        "see `ip link`; a client that runs calls again until the device is there" | "查看 `ip link`；运行中的客户端会一直重试，直到设备出现"
    BIND_NO_ADDRESS "bind-no-address" Fault
        "this is no address of this machine (bind=)" | "这不是本机的地址（bind=）";
        "{0}" | "{0}";
        "see `ip address`; where addresses change, name the device instead" | "查看 `ip address`；地址会变化时，改写设备名"

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
    SERVER_PACKETS "server-packets" Fine
        "packets to it may have {0} bytes (MTU), as far as this machine knows the path" | "据本机所知，此路径的数据包最大为 {0} 字节（MTU）";
        "" | "";
        "" | ""
    SERVER_CERT "server-cert" Fine
        "it shows a certificate for {0}, valid for {1} more days, with a chain of {2}, and a client that verifies takes it" | "它出示的证书适用于 {0}，还有 {1} 天有效，证书链共 {2} 张，验证证书的客户端会接受";
        "" | "";
        "" | ""
    SERVER_CERT_UNVERIFIED "server-cert-unverified" Fine
        "it shows a certificate for {0}, valid for {1} more days, with a chain of {2}; this client does not verify it, and one that does would say: {3}" | "它出示的证书适用于 {0}，还有 {1} 天有效，证书链共 {2} 张；此客户端不验证它，验证的客户端会报告：{3}";
        "" | "";
        "" | ""
    SERVER_CERT_REFUSED "server-cert-refused" Fault
        "this client verifies the server's certificate, and does not take this one (for {2})" | "此客户端验证服务端证书，不接受这一张（适用于 {2}）";
        "{0}" | "{0}";
        "{1}" | "{1}"
    SERVER_TLS_FAILED "server-tls-failed" Fault
        "there is no TLS session with it" | "无法与它建立 TLS 会话";
        "{0}" | "{0}";
        "see whether that port is the server's, and which TLS a proxy before it speaks: it has to be 1.3" | "确认该端口属于服务端，并查看其前方代理支持的 TLS 版本：必须是 1.3"
    SERVER_AGREED "server-agreed" Fine
        "the keys are the same; its terms are mode={0}, type={1}, max={2}, tls={3}" | "两端密钥一致；服务端的条件是 mode={0}、type={1}、max={2}、tls={3}";
        "" | "";
        "" | ""
    SERVER_KEYS "server-keys" Fault
        "the keys differ" | "两端密钥不同";
        "the server knows another key than the one in this URL" | "服务端的密钥与此 URL 中的不同";
        "put the same key before the @ of both URLs; after ten wrong ones within a minute this address is banned for ten minutes" | "在两端 URL 的 @ 之前使用相同密钥；一分钟内错误十次，本地址会被封禁十分钟"
    SERVER_FORGED "server-forged" Fault
        "its answer is not under the key: {0}" | "它的应答不是用此密钥生成的：{0}";
        "another program answers in the server's place" | "有其他程序代替服务端应答";
        "see where host and port lead (`ip route get ADDRESS`, DNS), and whether another machine has that address" | "查看主机和端口通向哪里（`ip route get 地址`、DNS），以及是否有其他机器占用该地址"
    SERVER_UNASKED "server-unasked" Note
        "keys and terms are not compared: the 1.14 handshake takes the tunnel over from the client that has it" | "没有比较密钥和条件：1.14 的握手会从现有客户端那里接管隧道";
        "" | "";
        "" | ""
    SERVER_UNPROVEN "server-unproven" Fault
        "it does not know the authenticated handshake, and auth=2 takes no other" | "它不支持认证握手，而 auth=2 不接受其他握手";
        "" | "";
        "put this program at the server as well, or set auth=1" | "服务端也改用本程序，或设置 auth=1"
    TERMS_REFUSED "terms-refused" Fault
        "this client does not take its terms" | "此客户端不接受服务端的条件";
        "{0}" | "{0}";
        "set tls at the server, or a lower one here" | "在服务端设置 tls，或在这里降低 tls"
    PROXY_CONNECTS "proxy-connects" Fine
        "the proxy connects to the server, after {0} ms" | "代理已连通服务端，用时 {0} 毫秒";
        "" | "";
        "" | ""
    PROXY_FAILS "proxy-fails" Fault
        "the proxy of HTTPS_PROXY does not connect to the server" | "HTTPS_PROXY 的代理没有连通服务端";
        "{0}" | "{0}";
        "see whether the proxy runs and allows CONNECT to the tunnel's port; NO_PROXY names servers that are called without it. {1}" | "确认代理在运行并允许 CONNECT 到隧道端口；NO_PROXY 可列出不经代理的服务端。{1}"
    QUIC_PROXIED "quic-proxied" Note
        "the pool is of type=1 (QUIC), which does not go through an HTTP proxy: it comes over TCP with TLS" | "连接池为 type=1（QUIC），无法通过 HTTP 代理：改走 TCP 加 TLS";
        "" | "";
        "" | ""
    QUIC_BLOCKED "quic-blocked" Warning
        "the pool is of type=1 (QUIC), and no datagram comes back: it comes over TCP with TLS" | "连接池为 type=1（QUIC），但没有任何数据报返回：改走 TCP 加 TLS";
        "UDP at the server's port is closed by a firewall, a security group or a router on the path" | "服务端端口的 UDP 被路径上的防火墙、安全组或路由器关闭";
        "open UDP at the server's port, or set type=0 at the server" | "放行服务端端口的 UDP，或在服务端设置 type=0"
    SERVER_QUIC "server-quic" Fine
        "QUIC answers, in packets of up to {0} bytes: type=1 works over UDP" | "QUIC 有应答，数据包最大 {0} 字节：type=1 可经 UDP 工作";
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
