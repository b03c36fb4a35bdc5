//! Loads: quiet sockets, requests and answers, bulk. The last two stand in for redis-benchmark
//! and iperf3 where those are not installed.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _, stdin, stdout};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

/// Bytes of one bulk write.
const CHUNK: usize = 128 << 10;

/// A process with quiet sockets. Dropping it ends it.
pub(crate) struct Fleet {
    child: Child,
    _stdin: ChildStdin,
}

impl Fleet {
    pub(crate) fn start(sockets: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe().context("own path")?)
            .args(["fleet", &sockets.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the quiet sockets")?;
        let stdin = child.stdin.take().context("stdin")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
        let fleet = Self {
            child,
            _stdin: stdin,
        };
        ensure!(
            line.trim() == "ready",
            "{sockets} sockets could not be opened"
        );
        Ok(fleet)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens `sockets` connected sockets, says so, and keeps them until stdin ends.
pub(crate) fn fleet(sockets: usize) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    ensure!(
        most > sockets as u64 + 32,
        "{sockets} sockets need more descriptors than {most}; ulimit -Hn raises that"
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let at = listener.local_addr()?;
    let mut open = Vec::with_capacity(sockets);
    for _ in 0..sockets.div_ceil(2) {
        open.push(TcpStream::connect(at).context("connecting")?);
        open.push(listener.accept().context("accepting")?.0);
    }
    drop(listener);
    println!("ready");
    stdout().flush()?;
    stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// Opens and closes `rate` connections a second for some seconds, and says when it begins.
pub(crate) fn churn(rate: u32, seconds: u64) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let at = listener.local_addr()?;
    println!("ready");
    stdout().flush()?;
    let began = Instant::now();
    let mut made = 0u32;
    while began.elapsed() < Duration::from_secs(seconds) {
        let mut client = TcpStream::connect(at).context("connecting")?;
        let (mut server, _) = listener.accept().context("accepting")?;
        client.write_all(&[7; 512]).context("writing")?;
        server.read_exact(&mut [0; 512]).context("reading")?;
        // Closed by a reset: a minute in TIME_WAIT would use up the ports.
        let reset = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&client, sockopt::Linger, &reset).context("SO_LINGER")?;
        drop((client, server));
        made += 1;
        let due = began + Duration::from_secs(made.into()) / rate.max(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn serving(each: fn(TcpStream) -> std::io::Result<()>) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    println!("{}", listener.local_addr()?.port());
    stdout().flush()?;
    for stream in listener.incoming() {
        let stream = stream.context("accepting")?;
        // A client that goes away is the end of its connection and of nothing else.
        std::thread::spawn(move || drop(each(stream)));
    }
    Ok(())
}

/// Sends back what it gets, until it is killed. Prints its port.
pub(crate) fn echo_server() -> Result<()> {
    serving(|mut stream| {
        stream.set_nodelay(true)?;
        let mut buffer = [0u8; 4096];
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..n])?;
        }
    })
}

/// Requests of 64 bytes on `connections` connections in turn: rate, and latencies in ms.
pub(crate) fn echo_client(port: u16, connections: usize, seconds: u64) -> Result<Value> {
    let mut streams = Vec::new();
    for _ in 0..connections.max(1) {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting")?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (request, mut answer) = ([7u8; 64], [0u8; 64]);
    let mut latencies: Vec<u64> = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        let sent = Instant::now();
        for stream in &mut streams {
            stream.write_all(&request)?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut answer)?;
            latencies.push(u64::try_from(sent.elapsed().as_nanos())?);
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let rate = latencies.len() as f64 / elapsed;
    latencies.sort_unstable();
    let at = |q: f64| {
        let i = (latencies.len() as f64 * q) as usize;
        latencies
            .get(i.min(latencies.len().saturating_sub(1)))
            .map(|ns| *ns as f64 / 1e6)
    };
    Ok(json!({"rps": rate, "p50_ms": at(0.5), "p99_ms": at(0.99)}))
}

/// Reads and forgets, until it is killed. Prints its port.
pub(crate) fn sink_server() -> Result<()> {
    serving(|mut stream| {
        let mut buffer = vec![0u8; CHUNK];
        while stream.read(&mut buffer)? > 0 {}
        Ok(())
    })
}

/// Writes as fast as it can: bits per second.
pub(crate) fn sink_client(port: u16, seconds: u64) -> Result<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting")?;
    let chunk = vec![0u8; CHUNK];
    let mut bytes = 0u64;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        match stream.write(&chunk) {
            Ok(n) => bytes += n as u64,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("writing"),
        }
    }
    Ok(json!({"bits_per_second": bytes as f64 * 8.0 / began.elapsed().as_secs_f64()}))
}
