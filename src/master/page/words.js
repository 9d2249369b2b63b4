// Every word of the page, in both languages; {0} stands for a value.
const en = {
  skip: "To the content", language: "Language", theme: "Theme", auto: "Auto", light: "Light", dark: "Dark", leave: "Forget key",
  enter: "API key", key: "API key of this master", keyNote: "The master writes it to its log when it starts for the first time. It stays in this tab, and is forgotten when the tab closes.",
  open: "Open", wrongKey: "The master does not accept this key", clear: "This connection is not encrypted: the key can be read on its path.",
  instances: "Instances", master: "Master", bans: "Bans", live: "live", lost: "no connection, trying again", connecting: "connecting",
  new: "New instance", find: "Find by name, address or status", instance: "Instance", path: "Address and target", users: "Users", pool: "Pool", ping: "Ping",
  rate: "Rate", total: "Total", actions: "Actions", none: "No instance yet", noneFound: "No instance matches",
  running: "running", stopped: "stopped", error: "error", sum: "{0} of {1} running · {2} users · ↓ {3} ↑ {4}",
  start: "Start", stop: "Stop", restart: "Restart", reset: "Reset counters", remove: "Delete", edit: "Edit", logs: "Log", more: "More actions for {0}", copyUrl: "Copy URL",
  started: "{0} starts", stopping: "{0} stops", restarting: "{0} restarts", resetDone: "Counters of {0} are reset", removed: "{0} is deleted", saved: "Saved", copied: "Copied", created: "{0} is created",
  askStop: "Stop {0}?\n{1} users lose their connections.", askRestart: "Restart {0}?\n{1} users lose their connections.", askReset: "Set the counters of {0} to zero?",
  askDelete: "Delete {0}?\nIt stops, and its URL and key are forgotten.", askKey: "Make a new API key?\nThe old one is refused at once, at every page and script.", newKeyIs: "The new API key. This tab uses it already.",
  cancel: "Cancel", close: "Close", save: "Save", create: "Create", ok: "OK",
  newTitle: "New instance", editTitle: "Edit {0}", role: "Role", alias: "Alias", tunnelKey: "Tunnel key", address: "Tunnel address", targets: "Targets, separated by commas",
  parameters: "Parameters", parametersNote: "Empty means the default. Those that are set are marked.", url: "URL", defaultIs: "default: {0}", unset: "default", badUrl: "This is no server:// or client:// URL",
  needsAddress: "The tunnel address is missing: host:port", accepts: "takes {0}",
  logTitle: "Log of {0}", filter: "Filter", level: "Log level", allLevels: "all levels", pause: "Pause", resume: "Resume ({0} new)",
  settings: "Settings", masterAlias: "Alias of the master", newKey: "New API key", export: "Export", import: "Import", exportNote: "All instances as JSON, tunnel keys included.",
  importedNote: "{0} imported, {1} left out", check: "Check", checkAll: "Check every instance", checking: "{0}: looking …", counted: "{0}: faults {1}, warnings {2}",
  "level-fault": "FAULT", "level-warning": "WARNING", "level-note": "note", "level-fine": "ok", cause: "cause", cure: "cure", look: "Look again", api: "The API, call by call",
  checkNote: "The program looks deeper, and disturbs nothing: URLs, ports, names, targets, the way to the server, certificates, limits. Here by instance, or by a command:", try: "Try a TCP target from the master", tryNow: "Try", copy: "Copy",
  reached: "{0}: connected in {1} ms", notReached: "{0}: {1}", fine: "Nothing found: every instance is well, and all is saved",
  inError: "{0} is in error: {1}", warned: "{0}: {1}", unsaved: "Changes are not on the disk: {0}", again: "Reload", noBans: "No address is banned", bansNote: "Sources that failed too often.", unban: "Lift", unbanned: "{0} is let in again",
  version: "Version", system: "System", uptime: "Up for", sysup: "System up for", cpu: "Processor", cores: "{0} × {1}", memory: "Memory", swap: "Swap", net: "Network", disk: "Disk", id: "Id", host: "Host", tls: "TLS", tls0: "off", tls1: "certificate made by itself", tls2: "certificate files",
  of: "{0} of {1}", noLine: "see its log", silent: "The master does not answer",
};
const zh = {
  skip: "跳到内容", language: "语言", theme: "主题", auto: "自动", light: "浅色", dark: "深色", leave: "清除密钥",
  enter: "API 密钥", key: "此主控的 API 密钥", keyNote: "主控首次启动时写入日志。密钥只留在此标签页，关闭后即清除。",
  open: "进入", wrongKey: "主控不接受此密钥", clear: "此连接未加密：密钥在途中可被读取。",
  instances: "实例", master: "主控", bans: "封禁", live: "实时", lost: "连接中断，正在重试", connecting: "正在连接",
  new: "新建实例", find: "按名称、地址或状态查找", instance: "实例", path: "地址与目标", users: "用户", pool: "连接池", ping: "延迟",
  rate: "速率", total: "总量", actions: "操作", none: "还没有实例", noneFound: "没有匹配的实例",
  running: "运行中", stopped: "已停止", error: "出错", sum: "{1} 个中 {0} 个运行 · {2} 个用户 · ↓ {3} ↑ {4}",
  start: "启动", stop: "停止", restart: "重启", reset: "计数清零", remove: "删除", edit: "编辑", logs: "日志", more: "{0} 的更多操作", copyUrl: "复制 URL",
  started: "{0} 正在启动", stopping: "{0} 正在停止", restarting: "{0} 正在重启", resetDone: "{0} 的计数已清零", removed: "{0} 已删除", saved: "已保存", copied: "已复制", created: "{0} 已创建",
  askStop: "停止 {0}？\n{1} 个用户将断开连接。", askRestart: "重启 {0}？\n{1} 个用户将断开连接。", askReset: "将 {0} 的计数清零？",
  askDelete: "删除 {0}？\n它将停止，其 URL 和密钥不再保留。", askKey: "生成新的 API 密钥？\n旧密钥立即失效，所有页面和脚本都不能再用。", newKeyIs: "新的 API 密钥，此标签页已在使用。",
  cancel: "取消", close: "关闭", save: "保存", create: "创建", ok: "确定",
  newTitle: "新建实例", editTitle: "编辑 {0}", role: "角色", alias: "别名", tunnelKey: "隧道密钥", address: "隧道地址", targets: "目标，以逗号分隔",
  parameters: "参数", parametersNote: "留空即默认值。已设置的带有标记。", url: "URL", defaultIs: "默认：{0}", unset: "默认", badUrl: "这不是 server:// 或 client:// 的 URL",
  needsAddress: "缺少隧道地址：主机:端口", accepts: "可取：{0}",
  logTitle: "{0} 的日志", filter: "筛选", level: "日志级别", allLevels: "全部级别", pause: "暂停", resume: "继续（{0} 条新）",
  settings: "设置", masterAlias: "主控别名", newKey: "新的 API 密钥", export: "导出", import: "导入", exportNote: "全部实例的 JSON，含隧道密钥。",
  importedNote: "导入 {0} 个，略过 {1} 个", check: "检查", checkAll: "检查所有实例", checking: "{0}：正在检查……", counted: "{0}：故障 {1} 个，警告 {2} 个",
  "level-fault": "故障", "level-warning": "警告", "level-note": "提示", "level-fine": "正常", cause: "原因", cure: "处理", look: "再看一次", api: "逐项查看 API",
  checkNote: "程序可以检查得更深入，且不打扰运行中的实例：URL、端口、域名、目标、通往服务端的路径、证书、限制。在此逐个实例检查，或用命令：", try: "从主控试连一个 TCP 目标", tryNow: "试连", copy: "复制",
  reached: "{0}：{1} 毫秒连通", notReached: "{0}：{1}", fine: "没有发现问题：实例都正常，一切已保存",
  inError: "{0} 出错：{1}", warned: "{0}：{1}", unsaved: "更改尚未写入磁盘：{0}", again: "刷新", noBans: "没有被封禁的地址", bansNote: "失败次数过多的来源。", unban: "解除", unbanned: "{0} 已解除",
  version: "版本", system: "系统", uptime: "已运行", sysup: "系统已运行", cpu: "处理器", cores: "{1} × {0}", memory: "内存", swap: "交换区", net: "网络", disk: "磁盘", id: "标识", host: "主机", tls: "TLS", tls0: "关闭", tls1: "自签名证书", tls2: "证书文件",
  of: "{0} / {1}", noLine: "见其日志", silent: "主控没有应答",
};
// What the parameters do, in Chinese; the English is the program's own. A test keeps the names equal to the program's.
const parametersZh = {
  log: "显示的最低日志级别",
  tls: "0 明文，1 内存自签名证书，2 证书文件；隧道客户端上是可接受的最低要求，单端时是其监听的设置",
  crt: "tls=2 的 PEM 证书链",
  key: "tls=2 的 PEM 私钥",
  dns: "域名解析结果保留多久，0 每次都查；也可写代替系统来查询的 DNS 服务器",
  sni: "握手用的 TLS 服务器名和 HTTP Host；不设则用隧道主机名",
  lbs: "多个目标如何选择：0 轮询，1 延迟最低，2 主备",
  auth: "握手方式：0 用 1.14 的，1 用认证握手，对只会 1.14 的程序用旧的，2 只用认证握手",
  wire: "与哪一代原版通信：auto 为 1.13 起的全部；否则只限那一代，且无认证握手",
  min: "保持的连接池大小",
  max: "连接池上限，会告知客户端",
  clients: "同时的客户端数；0 不限",
  mode: "服务端：1 用户从这里进入，2 从客户端进入；客户端：1 无服务端（单端），2 隧道；0 自动判断",
  quic: "旧写法：1 即 type=1",
  type: "连接池传输，会告知客户端：0 TCP，1 QUIC，2 WebSocket，3 HTTP/2",
  dial: "连接目标时的本地源地址",
  bind: "从哪里连接服务端：本机地址或网络设备",
  read: "TCP 连接双向空闲这么久即关闭；0 从不",
  rate: "每个方向的限速，Mbit/s，全部连接共享；0 不限",
  slot: "同时的用户连接和 UDP 会话数；0 不限",
  udpslot: "同时的新 UDP 会话数（用户只发过一个数据报且尚无应答），不计入 slot；0 不限；默认为 slot 的四分之一",
  perip: "单个来源同时的连接和会话数（IPv4 地址或 IPv6 /64）；0 不限",
  allow: "只允许这些来源进入",
  deny: "不允许这些来源进入，优先于 allow",
  proxy: "1 先向 TCP 目标发送 PROXY 协议 v1 头",
  block: "拒绝以这些协议开头的连接：1 SOCKS4/5，2 HTTP，3 TLS；可组合，0 不拒绝",
  notcp: "1 不承载 TCP",
  noudp: "1 不承载 UDP",
  metrics: "在此地址以 HTTP 向监控系统提供指标和健康状态",
  cors: "哪些其他来源的网页可用 API",
};

const languages = { en, zh };
let language = "en";

export function speak(name) {
  language = languages[name] ? name : "en";
}

export function spoken() {
  return language;
}

/** The word, its values filled in. */
export function t(name, ...values) {
  return (languages[language][name] ?? en[name] ?? name).replace(/\{(\d)\}/g, (_, at) => values[at] ?? "");
}

/** What a parameter does. */
export function meaning(parameter) {
  return (language === "zh" && parametersZh[parameter.name]) || parameter.meaning;
}
