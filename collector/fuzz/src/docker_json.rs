//! Docker's json-file: any bytes, in any chunks.

use collector::{
    record::{Stream, timestamp::Recognizer},
    source::Format,
};
use serde_json::{Map, Value};

use super::{
    cri,
    input::Input,
    lines::{self, Parsed},
};

/// Choices and content as for CRI.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = cri::setup(&mut input, Format::DockerJson);
    let files = cri::files(input.content);
    let longest = setup.bound + 2048;
    lines::check(setup, &files, &input.sizes(), |line| {
        (line.len() <= longest).then(|| parse(line)).flatten()
    });
}

fn parse(line: &[u8]) -> Option<Parsed> {
    let object: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let stream = match object.get("stream").map(Value::as_str) {
        None => Stream::None,
        Some(Some("stdout")) => Stream::Stdout,
        Some(Some("stderr")) => Stream::Stderr,
        Some(_) => return None,
    };
    if let Some(time) = object.get("time") {
        let time = time.as_str()?.as_bytes();
        if Recognizer::default().prefix(time) != Some(time.len()) {
            return None;
        }
    }
    let log = object.get("log")?.as_str()?;
    Some(Parsed { stream, text: log.strip_suffix('\n').unwrap_or(log).as_bytes().to_vec() })
}
