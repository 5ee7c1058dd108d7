//! Servers that send and send: what asks for nothing must cost next to nothing, and what is refused is not asked again at
//! once.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{ServerConnection, StreamOwned};

use crate::{
    harness::{Agent, World, patience},
    renewal::Authority,
};

/// Bytes that an HTTP/2 connection begins with.
const PREFACE: usize = 24;

/// What a server does on a connection after it has read the first bytes of it. It ends with the connection.
type Flood = fn(&mut dyn Duplex, &AtomicUsize) -> io::Result<()>;

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

/// A world whose only sink goes to a server that does this; the number counts what the server is asked.
fn world(flood: Flood, tls: bool) -> (World, Arc<AtomicUsize>) {
    let mut world = World::new("poll");
    let ca = Authority::new();
    fs::write(world.path("ca.pem"), ca.certificate.pem()).unwrap();
    let mut config = Arc::unwrap_or_clone(ca.server(None));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = tls.then(|| Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let (config, asked) = (config.clone(), Arc::clone(&counted));
            // What fails is the agent's to notice.
            thread::spawn(move || serve(tcp, config, flood, &asked));
        }
    });
    let (scheme, more) = match tls {
        true => ("https", format!(", tls: {{ca_file: {}}}", world.path("ca.pem").display())),
        false => ("http", String::new()),
    };
    world.sinks = format!(
        "  out: {{type: http, url: '{scheme}://127.0.0.1:{port}/', timeout: 5s, backoff_base: 100ms, backoff_max: 1s{more}}}\n"
    );
    world.extra = "drain_timeout: 1s\n".into();
    (world, asked)
}

fn serve(
    tcp: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    flood: Flood,
    asked: &AtomicUsize,
) -> io::Result<()> {
    // What the agent sends back must not stop the flood.
    tcp.set_read_timeout(Some(Duration::from_millis(1)))?;
    let preface = if tls.is_some() { PREFACE } else { 64 << 10 };
    let mut stream: Box<dyn Duplex> = match tls {
        None => Box::new(tcp),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, tcp))
        }
    };
    let mut read = 0;
    while read == 0 || (preface == PREFACE && read < PREFACE) {
        read += read_some(&mut *stream, preface - read)?.len();
    }
    flood(&mut *stream, asked)
}

/// Waits for something to read, at most so much.
fn read_some(stream: &mut dyn Duplex, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => return Ok(bytes[..read].to_vec()),
            Err(error) if is_late(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Sends this again and again, and throws away what comes back.
fn repeat(stream: &mut dyn Duplex, piece: &[u8]) -> io::Result<()> {
    let pieces = piece.repeat((256 << 10) / piece.len());
    let mut thrown_away = vec![0; 1 << 20];
    loop {
        stream.write_all(&pieces)?;
        loop {
            match stream.read(&mut thrown_away) {
                Ok(read) if read > 0 => {}
                Err(error) if is_late(&error) => break,
                Ok(_closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// CPU time that the agent has used.
fn cpu(agent: &Agent) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid().as_raw_nonzero())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The agent is at it for 8 seconds and uses less than a tenth of a CPU: what may be sent at once, and a trickle.
#[track_caller]
fn costs_next_to_nothing(flood: Flood, tls: bool) {
    let (world, _asked) = world(flood, tls);
    world.container("web").write(10);
    let agent = world.start();
    world.wait_for_first_look();
    thread::sleep(Duration::from_millis(500));
    let before = cpu(&agent);
    thread::sleep(Duration::from_secs(8));
    let used = cpu(&agent) - before;
    println!("{used:?} of CPU time");
    // An emulated machine, or one without optimisation, is slower by far.
    assert!(used < Duration::from_millis(700) * slowness(), "{used:?} of CPU time");
    assert_eq!(agent.stop(), Some(1), "nothing can be delivered");
}

fn slowness() -> u32 {
    (patience().as_secs() / 240).max(1) as u32
}

#[test]
fn interim_replies_without_end() {
    costs_next_to_nothing(|stream, _| repeat(stream, b"HTTP/1.1 102 Processing\r\n\r\n"), false);
}

#[test]
fn a_body_in_pieces_of_a_byte_without_end() {
    costs_next_to_nothing(
        |stream, _| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            repeat(stream, b"1\r\nx\r\n")
        },
        false,
    );
}

#[test]
fn pings_without_end() {
    costs_next_to_nothing(
        |stream, _| {
            stream.write_all(&frame(4, 0, 0, b""))?;
            repeat(stream, &frame(6, 0, 0, b"12345678"))
        },
        true,
    );
}

#[test]
fn settings_without_end() {
    costs_next_to_nothing(|stream, _| repeat(stream, &frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])), true);
}

#[test]
fn window_updates_and_resets_of_streams_that_are_over_without_end() {
    costs_next_to_nothing(
        |stream, _| {
            stream.write_all(&frame(4, 0, 0, b""))?;
            let both = [frame(8, 0, 0, &[0, 0, 0, 1]), frame(3, 0, 1, &[0, 0, 0, 8])].concat();
            repeat(stream, &both)
        },
        true,
    );
}

/// Reads requests and answers each by these frames.
fn answer_by(
    stream: &mut dyn Duplex,
    asked: &AtomicUsize,
    answer: fn(u8) -> Vec<u8>,
) -> io::Result<()> {
    stream.write_all(&frame(4, 0, 0, b""))?;
    let mut bytes = Vec::new();
    loop {
        bytes.extend(read_some(stream, 64 << 10)?);
        while bytes.len() >= 9 {
            let length = usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
            if bytes.len() < 9 + length {
                break;
            }
            let (kind, number) = (bytes[3], bytes[8]);
            bytes.drain(..9 + length);
            if kind == 1 {
                asked.fetch_add(1, Ordering::SeqCst);
                stream.write_all(&answer(number))?;
            }
        }
    }
}

#[track_caller]
fn is_not_asked_again_at_once(flood: Flood) {
    let (world, asked) = world(flood, true);
    world.container("web").write(10);
    let agent = world.start();
    let deadline = Instant::now() + patience();
    while asked.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "{}", world.log());
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_secs(5));
    let times = asked.load(Ordering::SeqCst);
    assert!(times < 40, "asked {times} times in five seconds");
    assert_eq!(agent.stop(), Some(1), "nothing can be delivered");
}

#[test]
fn requests_that_are_reset() {
    is_not_asked_again_at_once(|stream, asked| {
        answer_by(stream, asked, |number| frame(3, 0, number, &[0, 0, 0, 8]))
    });
}

#[test]
fn requests_that_are_refused_before_they_are_looked_at() {
    is_not_asked_again_at_once(|stream, asked| {
        answer_by(stream, asked, |number| frame(3, 0, number, &[0, 0, 0, 7]))
    });
}

#[test]
fn connections_that_go_away() {
    is_not_asked_again_at_once(|stream, asked| {
        answer_by(stream, asked, |_| frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]))
    });
}
