//! Configurations that can never work are refused at the start, with what to do.

use super::*;

fn refusal(more: serde_json::Value) -> String {
    let config = config("http://localhost/", more);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let context = crate::deliver::testing::context("logs", None);
    match start_with(
        &config,
        context,
        runtime.handle(),
        (proxy::Environment::default(), Pace::default()),
    ) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{more_config:?} was accepted", more_config = config.url),
    }
}

#[test]
fn what_cannot_work_is_said_with_a_remedy() {
    let junk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(junk.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    let said: Vec<String> = [
        json!({"url": "localhost:9200"}),
        json!({"url": "ftp://host/"}),
        json!({"url": "http://"}),
        json!({"url": "https://user:hunter2@host/"}),
        json!({"headers": {"bad name": "x"}}),
        json!({"headers": {"x-key": "hunter2\n"}}),
        json!({"headers": {"content-encoding": "br"}}),
        json!({"proxy": "socks5://me:hunter2@proxy"}),
        json!({"tls": {"ca_file": "/nonexistent.pem"}}),
        json!({"tls": {"cert_file": "/nonexistent.pem"}}),
        json!({"tls": {"server_name": "not a name"}}),
        json!({"auth": {"basic_user": "me"}}),
    ]
    .into_iter()
    .map(refusal)
    .collect();
    assert!(!said.iter().any(|text| text.contains("hunter2")), "{said:#?}");
    insta::assert_snapshot!(said.join("\n"), @r#"
    Sink `logs`: `url` does not begin with http:// or https:// and a host. Write it like https://logs.example.com/ingest.
    Sink `logs`: `url` does not begin with http:// or https:// and a host. Write it like https://logs.example.com/ingest.
    Sink `logs`: `url` is not a URL: empty string. Write it like https://logs.example.com/ingest.
    Sink `logs`: `url` holds credentials. Put the user into `auth.basic_user` and the password into a file named by `auth.basic_password_file`.
    Sink `logs`: `headers` has the invalid name "bad name". Mend the name.
    Sink `logs`: `headers` has an invalid value for x-key. Use visible ASCII.
    Sink `logs`: `headers` sets content-encoding, which the sink sets itself. Remove it there; `compression` and `auth` decide it.
    Sink `logs`: `proxy` is not an http:// proxy. Write it like http://proxy.example.com:3128.
    Sink `logs`: cannot read the certificate authorities /nonexistent.pem: No such file or directory (os error 2). Name a PEM file that the agent's user can read.
    Sink `logs`: `tls` has only one of `cert_file` and `key_file`. Set both or neither.
    Sink `logs`: `tls.server_name` "not a name" is no host name. Write the name in the server's certificate.
    Sink `logs`: `auth` has only one of `basic_user` and `basic_password_file`. Set both or neither.
    "#);
    assert!(refusal(json!({"tls": {"ca_file": junk.path()}})).contains("PEM"));
}
