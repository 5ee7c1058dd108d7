//! The joiner: messages of several parts, streams that take turns, files that end in the middle, bounds that
//! fall anywhere. The lines are right; how they follow each other is the input's.

use collector::source::Format;

use super::{cri, input::Input, lines};

const TIME: &str = "2026-11-22T01:42:33.123456789Z";
/// Characters of one to four bytes, and a byte that is none.
const TEXT: &[u8] = "aé€😀b\u{7f}c\u{a0}".as_bytes();

/// Choices as for CRI. Content: a byte or two for each line.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = cri::setup(&mut input, Format::Cri);
    let bytes = write(input.content);
    let files: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    lines::check(setup, &files, &input.sizes(), cri::parse);
}

/// Files of lines: a line's byte says stream, part, and how long its message is.
fn write(content: &[u8]) -> Vec<Vec<u8>> {
    let mut files = vec![Vec::new()];
    let mut from = 0;
    for byte in &content[..content.len().min(200)] {
        let last = files.len() - 1;
        let file = &mut files[last];
        match byte {
            // The file ends here, with or without a newline.
            0xf0..=0xf7 if last < 4 => {
                if byte & 1 == 1 {
                    file.pop();
                }
                files.push(Vec::new());
                continue;
            }
            0xf8..=0xfb => file.extend_from_slice(&[0; 20][..usize::from(byte & 3) * 5]),
            0xfc..=0xff => file.extend_from_slice(b"not of this format\n"),
            _ => {}
        }
        let stream = if byte & 1 == 0 { "stdout" } else { "stderr" };
        let tag = ["P", "F", "P:x", "F:y:z"][usize::from(byte >> 1 & 3)];
        file.extend_from_slice(format!("{TIME} {stream} {tag} ").as_bytes());
        let length = usize::from(byte >> 3) * usize::from(byte >> 3);
        file.extend(TEXT.iter().cycle().skip(from).take(length));
        from = (from + length) % TEXT.len();
        file.push(b'\n');
    }
    files
}
