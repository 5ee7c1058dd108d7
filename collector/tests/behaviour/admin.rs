//! The admin port of a running agent while others hold it, and who it answers to.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Over, World, free_port};

/// A kubelet's patience with a probe, a second by default.
const PROBE: Duration = Duration::from_secs(1);

fn ask(address: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// Runs `attack` in so many threads, each again and again, until the probes are done. The slowest probe.
fn slowest_probe(attackers: usize, attack: fn(SocketAddr) -> std::io::Result<()>) -> Duration {
    let mut world = World::new("inotify");
    let port = free_port();
    world.admin = Some(port);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    world.container("a").write(10);
    let agent = world.start();
    world.wait_for(10);
    assert!(world.ask("/healthz").contains("ok"));
    let over = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = (0..attackers)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    drop(attack(address));
                }
            })
        })
        .collect();
    let until = Over(&over);
    thread::sleep(Duration::from_secs(1));
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        assert!(ask(address, "/healthz", "127.0.0.1").contains(" 200 "));
        slowest = slowest.max(began.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    // Lines go on too.
    let mut container = world.container("b");
    container.write(10);
    world.wait_for(20);
    drop(until);
    attackers.into_iter().for_each(|attacker| attacker.join().unwrap());
    assert_eq!(agent.stop(), Some(0));
    slowest
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

#[test]
fn a_probe_is_answered_beside_clients_that_keep_asking() {
    let slowest = slowest_probe(40, |address| {
        let mut stream = connect(address)?;
        let mut reply = [0; 4096];
        for _ in 0..10 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            if stream.read(&mut reply)? == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    });
    assert!(slowest < PROBE, "{slowest:?}");
}

#[test]
fn a_probe_is_answered_beside_clients_that_never_finish_a_request() {
    let slowest = slowest_probe(40, |address| {
        let mut stream = connect(address)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\n")?;
        for n in 0..60 {
            thread::sleep(Duration::from_millis(100));
            stream.write_all(format!("X-{n}: y\r\n").as_bytes())?;
        }
        Ok(())
    });
    assert!(slowest < PROBE, "{slowest:?}");
}

#[test]
fn a_probe_is_answered_beside_clients_that_ask_for_much_and_read_nothing() {
    let slowest = slowest_probe(40, |address| {
        let mut stream = connect(address)?;
        let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
        loop {
            stream.write_all(&requests)?;
        }
    });
    assert!(slowest < PROBE, "{slowest:?}");
}

/// What a page does whose name was made to lead to the node.
#[test]
fn a_foreign_host_is_refused_and_a_listed_one_is_answered() {
    let mut world = World::new("inotify");
    let port = free_port();
    world.admin = Some(port);
    // Still below `admin`.
    world.extra = "  hosts: [Everyline.Monitoring.svc]\n".into();
    let _agent = world.start();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    world.wait_for_log("Everyline runs.");
    assert!(world.ask("/status").contains("\"files\""));
    for host in ["evil.example", "evil.example:9477", "127.0.0.1.evil.example", ""] {
        let reply = ask(address, "/status", host);
        assert!(reply.starts_with("HTTP/1.1 421 ") && !reply.contains("files"), "{host}: {reply}");
    }
    for host in ["everyline.monitoring.svc:9477", "localhost", "[::1]", "10.1.2.3:9477"] {
        assert!(ask(address, "/status", host).starts_with("HTTP/1.1 200 "), "{host}");
    }
}
