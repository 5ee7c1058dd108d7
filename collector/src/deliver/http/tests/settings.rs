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
        json!({"tls": {"ca_file": "/nonexistent.pem"}}),
        json!({"tls": {"cert_file": "/nonexistent.pem", "key_file": "/nonexistent.key"}}),
        json!({"auth": {"bearer_token_file": "/nonexistent"}}),
    ]
    .into_iter()
    .map(refusal)
    .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    Sink `logs`: cannot read the certificate authorities /nonexistent.pem: No such file or directory (os error 2). Name a PEM file that the agent's user can read.
    Sink `logs`: cannot read the client certificate /nonexistent.pem: No such file or directory (os error 2). Name a PEM file that the agent's user can read.
    Sink `logs`: cannot read the secret /nonexistent: No such file or directory (os error 2). Create the file, readable by the agent's user.
    "#);
    assert!(refusal(json!({"tls": {"ca_file": junk.path()}})).contains("PEM"));
}
