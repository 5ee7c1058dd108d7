//! CRI: any bytes, in any chunks.

use collector::{
    config::LongLines,
    record::{Stream, timestamp::Recognizer},
    source::Format,
};

use super::{
    input::Input,
    lines::{self, Parsed, Setup},
};

/// Longer tags are none.
const LONGEST_TAGS: usize = 192;

/// Choices: bound (two), long lines, sizes of chunks. Content: a file, `\xff\n` between several.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = setup(&mut input, Format::Cri);
    let files = files(input.content);
    lines::check(setup, &files, &input.sizes(), parse);
}

/// A decoder as chosen.
pub fn setup(input: &mut Input<'_>, format: Format) -> Setup {
    let bound = 1 + input.place(1 << 12);
    let long_lines = [LongLines::Split, LongLines::Cut][input.choice(2)];
    Setup { format, bound, long_lines }
}

/// The content as files: no text has the byte that parts them.
pub fn files(content: &[u8]) -> Vec<&[u8]> {
    let mut files: Vec<&[u8]> = Vec::new();
    let mut begin = 0;
    for at in 0..content.len() {
        if content[at..].starts_with(b"\xff\n") && at >= begin && files.len() < 4 {
            files.push(&content[begin..at]);
            begin = at + 2;
        }
    }
    files.push(content.get(begin..).unwrap_or_default());
    files
}

/// `TIME SP STREAM SP TAGS SP MESSAGE`.
pub fn parse(line: &[u8]) -> Option<Parsed> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (fields.next()?, fields.next()?, fields.next()?);
    if Recognizer::default().prefix(time) != Some(time.len()) {
        return None;
    }
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let single = matches!(tags, b"P" | b"F");
    let several = tags.len() < LONGEST_TAGS && (tags.starts_with(b"P:") || tags.starts_with(b"F:"));
    match fields.next() {
        Some(text) if single || several => Some(Parsed { stream, text: text.to_vec() }),
        // conmon leaves out the space before an empty message.
        None if single => Some(Parsed { stream, text: Vec::new() }),
        _ => None,
    }
}
