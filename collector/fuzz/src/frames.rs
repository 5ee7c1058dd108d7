//! The archive's frames: segments of any bytes, and of frames and other bytes in turn, damaged or cut off
//! anywhere. Walked by hand and searched.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use collector::{
    archive::{
        read::{Frames, Next},
        search::{Order, Search, Show},
        segment::{self, Header, Label, MAGIC, Parsed},
    },
    batch::TimeBounds,
};

use super::input::Input;

/// Frames that are made at most.
const MOST: usize = 8;

/// Choices: raw or made, how it is damaged and where, what is searched. Content: a segment, or in its lines
/// what frames hold (a line that begins with `#` stands between frames).
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let made = input.choice(2) == 1;
    let order = [Order::Oldest, Order::Newest][input.choice(2)];
    let tail = [None, Some(1 + input.choice(4) as u64)][input.choice(2)];
    let (bytes, untouched) = match made {
        true => segment(&mut input),
        false => (input.content.to_vec(), Some(Vec::new())),
    };
    let dir = directory();
    let path = dir.join(segment::file_name(1, 5));
    fs::write(&path, &bytes).expect("room for a segment");
    let read = walk(&path, bytes.len());
    if let Some(untouched) = untouched {
        let mut found = read.iter();
        let missing = untouched.iter().find(|raw| !found.any(|read| read == *raw));
        assert_eq!(missing, None, "a frame that was not touched is not found: {read:?}");
    }
    search(dir, &read, order, tail);
}

/// A segment of frames, damaged as chosen, and what the frames hold that are whole. No such list: bytes between
/// frames look like a frame, which may hide others.
fn segment(input: &mut Input<'_>) -> (Vec<u8>, Option<Vec<Vec<u8>>>) {
    let (mut bytes, mut frames, mut clear) = (Vec::new(), Vec::new(), true);
    for (number, line) in input.content.split(|byte| *byte == b'\n').take(2 * MOST).enumerate() {
        let begin = bytes.len();
        if let Some(between) = line.strip_prefix(b"#") {
            bytes.extend_from_slice(between);
            continue;
        }
        let raw = lines_of(line);
        let payload = zstd::bulk::compress(&raw, 1).expect("memory");
        let times = TimeBounds { from: number as i64, to: i64::MAX / 2 };
        let label = Label {
            namespace: (number % 2 == 0).then(|| "shop".into()),
            pod: Some(format!("pod-{number}").into()),
            container: None,
        };
        let header = Header::new(&payload, raw.len(), 1, times, vec![label; number % 3]);
        bytes.extend_from_slice(&header.encode(begin as u64));
        bytes.extend_from_slice(&payload);
        frames.push((begin..bytes.len(), raw));
    }
    match input.choice(3) {
        0 => {}
        1 => bytes.truncate(input.place(bytes.len() + 1)),
        _ => {
            let at = input.place(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.byte().max(1);
                frames.retain(|(place, _)| !place.contains(&at));
            }
        }
    }
    frames.retain(|(place, _)| place.end <= bytes.len());
    for at in memchr::memmem::find_iter(&bytes, &MAGIC) {
        let known = frames.iter().any(|(place, _)| place.start == at);
        clear &= known || !matches!(Header::parse(&bytes[at..], at as u64), Parsed::Header(..));
    }
    (bytes, clear.then(|| frames.into_iter().map(|(_, raw)| raw).collect()))
}

/// A frame's lines: the content has a `|` where one ends.
fn lines_of(content: &[u8]) -> Vec<u8> {
    let lines = content.iter().map(|byte| if *byte == b'|' { b'\n' } else { *byte });
    lines.chain([b'\n']).collect()
}

/// What the frames hold that can be believed. Every byte is passed over once.
fn walk(path: &Path, length: usize) -> Vec<Vec<u8>> {
    let mut frames = Frames::open(path).expect("it was just written");
    let (mut read, mut payload, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(next) = frames.advance().expect("a file can be read") {
        assert!(frames.position() > at && frames.position() <= length as u64, "it goes round");
        match next {
            Next::Damaged(bytes) => assert_eq!(at + bytes, frames.position()),
            Next::Frame(frame) => {
                assert_eq!(frame.end(), frames.position());
                if frame.payload(&mut payload).expect("a file can be read")
                    && let Ok(raw) = zstd::bulk::decompress(&payload, frame.header.raw_len)
                    && raw.len() == frame.header.raw_len
                {
                    read.push(raw);
                }
            }
        }
        at = frames.position();
    }
    read
}

/// The search finds the lines of these frames and no others.
fn search(dir: &Path, read: &[Vec<u8>], order: Order, tail: Option<u64>) {
    let show = Show::Json { terminal: false };
    let search = Search { show, order, tail, threads: 1, ..Search::default() };
    let mut found = Vec::new();
    let summary = search.run(dir, &mut found).expect("an archive that can be read");
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(<[u8]>::to_vec).collect()
    };
    let mut found = lines(&found);
    let mut wanted: Vec<Vec<u8>> = read.iter().flat_map(|raw| lines(raw)).collect();
    assert_eq!(summary.found, found.len() as u64);
    found.sort();
    wanted.sort();
    match tail {
        None => assert_eq!(found, wanted),
        Some(tail) => {
            assert_eq!(found.len(), wanted.len().min(tail as usize));
            assert!(found.iter().all(|line| wanted.binary_search(line).is_ok()));
        }
    }
}

/// The archive of this process.
fn directory() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = super::scratch("frames");
        fs::create_dir_all(&dir).expect("room for an archive");
        dir
    })
}
