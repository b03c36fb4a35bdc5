//! Which sockets are traced, as written on the command line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

/// Which sockets are traced: those that match any of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Target (sockets that match any of these)")]
pub struct Target {
    /// Sockets of this process; repeatable
    #[arg(long = "pid", value_name = "PID", value_delimiter = ',', value_parser = parse_pid)]
    pub pids: Vec<u32>,
    /// Children of the traced processes too
    #[arg(long)]
    pub follow: bool,
    /// Sockets of processes of this name (/proc/PID/comm); repeatable
    #[arg(long = "comm", value_name = "NAME", value_parser = parse_comm)]
    pub comms: Vec<String>,
    /// Sockets of the processes in this control group and those beneath; repeatable
    #[arg(long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<PathBuf>,
    /// Sockets with this port at either end; repeatable
    #[arg(long = "port", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// A listening socket and every connection that came through it; repeatable
    #[arg(long = "listener", value_name = "ADDR:PORT", value_parser = parse_listener)]
    pub listeners: Vec<Listener>,
    /// Every TCP socket of this host
    #[arg(long, conflicts_with_all = ["pids", "follow", "comms", "cgroups", "ports", "listeners"])]
    pub all: bool,
}

/// A listening address; `None` stands for any (`*:443`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address it is bound to.
    pub addr: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            Some(addr) => SocketAddr::new(addr, self.port).fmt(f),
            None => write!(f, "*:{}", self.port),
        }
    }
}

impl Target {
    /// Whether nothing was named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self
            == Target {
                follow: self.follow,
                ..Target::default()
            }
    }

    /// What is traced, in words, for the header of the output; unescaped.
    #[must_use]
    pub fn describe(&self) -> String {
        let list = |one: &str, many: &str, items: Vec<String>| match items.as_slice() {
            [] => None,
            [item] => Some(format!("{one} {item}")),
            _ => Some(format!("{many} {}", items.join(", "))),
        };
        let strings = |items: &[u32]| items.iter().map(u32::to_string).collect();
        let mut parts: Vec<String> = [
            list("pid", "pids", strings(&self.pids)),
            list("comm", "comms", self.comms.clone()),
            list(
                "cgroup",
                "cgroups",
                self.cgroups
                    .iter()
                    .map(|p| p.to_string_lossy().into_owned())
                    .collect(),
            ),
            list(
                "port",
                "ports",
                self.ports.iter().map(u16::to_string).collect(),
            ),
            list(
                "listener",
                "listeners",
                self.listeners.iter().map(Listener::to_string).collect(),
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        if self.all {
            parts.push("all TCP sockets".to_owned());
        }
        let words = parts.join("; ");
        if self.follow {
            format!("{words}, with children")
        } else {
            words
        }
    }
}

fn parse_pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => {
            let by_name = if text.parse::<i64>().is_err() && !text.is_empty() {
                format!(", or --comm {text} for a name")
            } else {
                String::new()
            };
            Err(format!("a process id is a number from 1{by_name}"))
        }
        Ok(pid) => Ok(pid),
    }
}

/// The kernel keeps 15 bytes of a name (`TASK_COMM_LEN` - 1).
fn parse_comm(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a process has a name".to_owned()),
        1..=15 => Ok(text.to_owned()),
        _ => {
            let mut end = 15;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            Err(format!(
                "the kernel keeps 15 bytes of a name; write {}",
                &text[..end]
            ))
        }
    }
}

fn parse_listener(text: &str) -> Result<Listener, String> {
    let wrong =
        || format!("`{text}` is no ADDR:PORT; write for example 0.0.0.0:443, [::]:443 or *:443");
    let listener = match text.strip_prefix("*:") {
        Some(port) => Listener {
            addr: None,
            port: port.parse().map_err(|_| wrong())?,
        },
        None => {
            let at: SocketAddr = text.parse().map_err(|_| wrong())?;
            Listener {
                addr: Some(at.ip()),
                port: at.port(),
            }
        }
    };
    if listener.port == 0 {
        Err(wrong())
    } else {
        Ok(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_round_trip() {
        for text in ["0.0.0.0:443", "[::]:443", "[fe80::1]:80", "*:65535"] {
            assert_eq!(
                parse_listener(text).map(|l| l.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "443", ":443", "*:", "*:0", "*:65536", "host:443", "10.0.0.1", "",
        ] {
            assert!(parse_listener(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_cut_where_the_kernel_cuts_them() {
        assert_eq!(
            parse_comm("fifteen-bytes-x"),
            Ok("fifteen-bytes-x".to_owned())
        );
        assert!(
            parse_comm("fifteen-bytes-xy")
                .unwrap_err()
                .ends_with("write fifteen-bytes-x")
        );
        assert!(
            parse_comm("ąąąąąąąą")
                .unwrap_err()
                .ends_with("write ąąąąąąą")
        );
        assert!(parse_comm("").is_err());
    }

    #[test]
    fn follow_alone_names_nothing() {
        assert!(
            Target {
                follow: true,
                ..Target::default()
            }
            .is_empty()
        );
        assert!(
            !Target {
                all: true,
                ..Target::default()
            }
            .is_empty()
        );
    }
}
