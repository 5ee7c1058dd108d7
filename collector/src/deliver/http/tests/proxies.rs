//! Through proxies: absolute form for http, a tunnel for https.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use super::*;

#[tokio::test]
async fn http_goes_through_a_proxy_in_absolute_form() {
    let proxy = Server::start(|head| {
        let known = head.header("proxy-authorization") == "Basic bWU6cEBzcw==";
        Reply::Status(if known { 200 } else { 407 })
    });
    let via = format!("http://me:p%40ss@{}", proxy.address());
    let config_via = config("http://logs.invalid:8080/x?y", json!({"proxy": via}));
    assert_eq!(deliver_one(&config_via, 2).await, [Outcome::Delivered]);
    let head = &proxy.heads()[0];
    assert_eq!(head.line, "POST http://logs.invalid:8080/x?y HTTP/1.1");
    assert_eq!(head.header("host"), "logs.invalid:8080");

    let environment = proxy::Environment { http: via, ..proxy::Environment::default() };
    let running = Running::start_via(
        &config("http://logs.invalid/", json!({})),
        environment,
        Pace::default(),
    );
    running.send(running.receipts.file(0).batch(1));
    assert_eq!(running.finish().await, [Outcome::Delivered]);
    assert_eq!(proxy.heads()[1].line, "POST http://logs.invalid/ HTTP/1.1");
}

/// A proxy that tunnels every CONNECT to `target` and notes the requests.
fn tunnel_to(
    target: std::net::SocketAddr,
    status: &'static str,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:secret@{}", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = heads.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let noted = noted.clone();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                noted.lock().unwrap().push(String::from_utf8(head).unwrap());
                write!(client, "HTTP/1.1 {status}\r\n\r\n").unwrap();
                if status.starts_with("200") {
                    relay(client, TcpStream::connect(target).unwrap());
                }
            });
        }
    });
    (url, heads)
}

fn relay(client: TcpStream, server: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let _ended = std::io::copy(&mut from, &mut to);
        let _closed = to.shutdown(std::net::Shutdown::Write);
    };
    let (client_2, server_2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || copy(client_2, server_2));
    copy(server, client);
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_is_verified_end_to_end() {
    let ca = tls::Authority::new();
    let server = ca.server(&["logs.invalid"], |_| Reply::Status(200));
    let (url, heads) = tunnel_to(server.address(), "200 Connection established");
    let more = json!({"proxy": url, "tls": {"ca_file": ca.file()}});
    assert_eq!(deliver_one(&config("https://logs.invalid/x", more), 2).await, [Outcome::Delivered]);
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("CONNECT logs.invalid:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0"), "{head}");
    assert_eq!(server.heads()[0].line, "POST /x HTTP/1.1");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_as_such() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let ca = tls::Authority::new();
    for status in ["407 Proxy Authentication Required", "502 Bad Gateway"] {
        let (url, _) = tunnel_to(nowhere, status);
        let more = json!({"proxy": url, "tls": {"ca_file": ca.file()}});
        let running = Running::start(&config("https://logs.invalid/", more));
        running.send(running.receipts.file(0).batch(1));
        running.failed("proxy").await;
        running.handle.task.abort();
    }
}
