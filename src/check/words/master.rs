//! Of a running master and its instances.

cases! {
    MASTER_FINE "master-fine" Fine
        "it answers, and has {0} instances" | "有响应，共有 {0} 个实例";
        "" | "";
        "" | ""
    MASTER_UNREACHABLE "master-unreachable" Fault
        "the master does not answer" | "master 没有响应";
        "{0}" | "{0}";
        "compare the address with the master's URL, and see whether it runs (systemctl status nodepass-master). {1}" | "核对地址与 master 的 URL，并确认它在运行（systemctl status nodepass-master）。{1}"
    MASTER_KEY "master-key" Fault
        "the master does not know this key" | "master 不认识此密钥";
        "NP_API_KEY, or the key in the URL, is missing or another master's" | "NP_API_KEY 或 URL 中的密钥缺失，或属于另一个 master";
        "NP_SHOW_KEY=1 makes the master log it at its start; NP_API_KEY hands it to this command" | "设置 NP_SHOW_KEY=1 后 master 启动时会在日志中写出密钥；用 NP_API_KEY 把它交给本命令"
    MASTER_BUSY "master-busy" Fault
        "the master has too much to do at once, or is stopping" | "master 过于繁忙，或正在停止";
        "" | "";
        "ask again in a moment" | "稍后再试"
    MASTER_OTHER "master-other" Fault
        "no master answers there" | "该地址上没有 master 应答";
        "another program has that port, or the path is not the master's prefix" | "该端口属于其他程序，或路径不是 master 的前缀";
        "take the path of the master's URL; without one it is /api" | "使用 master URL 中的路径；没有路径时为 /api"
    INSTANCE_BAD "instance-bad" Fault
        "the master says that it has failed" | "master 报告它已失败";
        "{0}" | "{0}";
        "see the findings about it here, and its log: GET /v1/instances/ID/logs" | "查看这里关于它的结果，以及它的日志：GET /v1/instances/ID/logs"
    INSTANCES_COLLIDE "instances-collide" Fault
        "it listens at the same port as {0}: {1}" | "它与 {0} 监听同一端口：{1}";
        "only one of the two can have it" | "两者只有一个能占用它";
        "give one of them another port or another address" | "为其中一个换用其他端口或地址"
}
