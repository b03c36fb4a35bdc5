//! Where an observation was made: one id for each kernel function or
//! tracepoint, the same in every tier. Ids are part of the recording format:
//! they are never reused or renumbered.

macro_rules! hooks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: u8 = $id;)*

        /// The kernel's name of hook `id`; `"?"` for an id this version does not know.
        #[must_use]
        pub fn name(id: u8) -> &'static str {
            match id {
                $($id => $text,)*
                _ => "?",
            }
        }
    };
}

hooks! {
    /// `tcp_release_cb`: the end of every process-context section (up to 7.0; deferred work from 7.1).
    RELEASE_CB = 1, "tcp_release_cb";
    /// `release_sock`, at entry: the same sections where `tcp_release_cb` is not always called.
    RELEASE_SOCK = 2, "release_sock";
    /// `tcp_rcv_established`: data, ACKs, backlog packets.
    RCV_ESTABLISHED = 3, "tcp_rcv_established";
    /// `tcp_rcv_state_process`: handshake, FIN states, new children.
    RCV_STATE_PROCESS = 4, "tcp_rcv_state_process";
    /// `tcp_write_xmit` outside process context: TSQ and pacing.
    WRITE_XMIT = 5, "tcp_write_xmit";
    /// `tcp_write_timer_handler`: RTO, TLP, window probes.
    WRITE_TIMER = 6, "tcp_write_timer_handler";
    /// `tcp_delack_timer_handler`: partial reclaim, up to 5.19.
    DELACK_TIMER = 7, "tcp_delack_timer_handler";
    /// `tcp_write_queue_purge`: reset, time-out, abort.
    WRITE_QUEUE_PURGE = 8, "tcp_write_queue_purge";
    /// `sk_stream_kill_queues`: unread data of a dying socket.
    KILL_QUEUES = 9, "sk_stream_kill_queues";
    /// `inet_sock_destruct`: the last reading.
    DESTRUCT = 10, "inet_sock_destruct";
    /// `tcp_add_backlog`.
    ADD_BACKLOG = 11, "tcp_add_backlog";
    /// `__release_sock`: the backlog was processed.
    RELEASE_BACKLOG = 12, "__release_sock";
    /// `tcp_wfree`: lower layers let go of a clone.
    TCP_WFREE = 13, "tcp_wfree";
    /// `__sock_wfree`: the same for a pure ACK.
    PURE_ACK_WFREE = 14, "__sock_wfree";
    /// `inet_csk_reqsk_queue_add`: a child joins its listener's accept queue.
    REQSK_QUEUE_ADD = 15, "inet_csk_reqsk_queue_add";
    /// `inet_csk_complete_hashdance`: the same for ordinary connections.
    HASHDANCE = 16, "inet_csk_complete_hashdance";
    /// Tracepoint `sock:inet_sock_set_state`.
    SET_STATE = 17, "inet_sock_set_state";
    /// Tracepoint `tcp:tcp_probe`.
    TCP_PROBE = 18, "tcp_probe";
    /// Tracepoint `net:net_dev_queue`.
    NET_DEV_QUEUE = 19, "net_dev_queue";
    /// Tracepoint `tcp:tcp_rcv_space_adjust`.
    RCV_SPACE_ADJUST = 20, "tcp_rcv_space_adjust";
    /// Tracepoint `sock:sock_send_length`.
    SEND_LENGTH = 21, "sock_send_length";
    /// Tracepoint `sock:sock_recv_length`.
    RECV_LENGTH = 22, "sock_recv_length";
    /// Tracepoint `tcp:tcp_retransmit_skb`.
    RETRANSMIT_SKB = 24, "tcp_retransmit_skb";
    /// Touched in a softirq, read when it ended.
    SOFTIRQ_EXIT = 26, "softirq_exit";
    /// Touched in process context, read when the task was switched out.
    PROCESS_EXIT = 27, "sched_switch";
    /// Tracepoint `tcp:tcp_destroy_sock`.
    DESTROY_SOCK = 28, "tcp_destroy_sock";
    /// Read by the baseline at attach, or when user space learned of the socket.
    BASELINE = 29, "iter/tcp";
    /// Read again by user space's request.
    RESYNC = 30, "iter/bpf_map_elem";
    /// `sock_rfree`: an skb was read.
    SOCK_RFREE = 31, "sock_rfree";
    /// `tcp_stream_alloc_skb`, before 5.17 `sk_stream_alloc_skb`: an skb to be written.
    STREAM_ALLOC_SKB = 32, "tcp_stream_alloc_skb";
    /// Tracepoint `sched:sched_process_fork`.
    FORK = 33, "sched_process_fork";
    /// Tracepoint `sched:sched_process_exit`.
    EXIT = 34, "sched_process_exit";
    /// `sock_setsockopt`: options of `SOL_SOCKET`.
    SOCK_SETSOCKOPT = 40, "sock_setsockopt";
    /// `tcp_setsockopt`: options of `SOL_TCP`.
    TCP_SETSOCKOPT = 41, "tcp_setsockopt";
    /// Tracepoint `sock:sock_exceed_buf_limit`.
    EXCEED_BUF_LIMIT = 42, "sock_exceed_buf_limit";
    /// Tracepoint `sock:sock_rcvqueue_full`.
    RCVQUEUE_FULL = 43, "sock_rcvqueue_full";
    /// `tcp_enter_memory_pressure`, where it does enter.
    ENTER_PRESSURE = 44, "tcp_enter_memory_pressure";
    /// `tcp_prune_ofo_queue`.
    PRUNE_OFO = 45, "tcp_prune_ofo_queue";
    /// `tcp_collapse`.
    COLLAPSE = 46, "tcp_collapse";
    /// `proc_sys_write`: a sysctl is written.
    SYSCTL_WRITE = 47, "proc_sys_write";
}
