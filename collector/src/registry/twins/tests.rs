//! Which copy is whose, and where it goes on.

use std::fs;

use super::*;

/// What a file that holds `copy` is, of an original of which `read` bytes of `was` were read and
/// settled, and which holds `now` (None: its former life is asked about).
fn told(was: &[u8], read: usize, now: Option<&[u8]>, copy: &[u8], age: Duration) -> Copied {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        identity::open(&dir.path().join(name)).unwrap()
    };
    let guard = Guard::of(&was[..read]);
    let (settled, resume) = (read as u64, read as u64);
    let at = Offset { settled, resume, guard, ..Offset::default() };
    // Added later, it skipped what was there, also what nobody read.
    let skipped = was.len() as u64 + 500;
    let late = Offset { settled: skipped, resume: skipped, ..Offset::default() };
    let original = Original {
        life: None,
        id: FileId(1),
        former: None,
        marks: None,
        is_copy: false,
        fingerprint: Fingerprint::of(&was[..read]),
        sinks: vec![("out".into(), at), ("late".into(), late)],
        excluded: Vec::new(),
        file: now.map(|now| Arc::new(file("app.log", now).0)),
        in_flight: false,
    };
    let (copied, look) = file("app.log.1", copy);
    original.copied_to(&copied, &look, &identity::head(&copied).unwrap(), age)
}

fn settled(copied: &Copied) -> Option<u64> {
    match copied {
        Copied::Yes(sinks) => Some(sinks["out"].settled),
        Copied::No | Copied::Perhaps => None,
    }
}

fn lines(word: &str, count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{word} {n}\n").into_bytes()).collect()
}

#[test]
fn a_copy_goes_on_where_its_truncated_original_was_left() {
    let was = lines("first", 100);
    let old = PATIENCE;
    for read in [40, was.len() / 2, was.len()] {
        let told = told(&was, read, None, &was, Duration::ZERO);
        assert_eq!(settled(&told), Some(read as u64));
    }
    let other = lines("other", 100);
    assert!(matches!(told(&was, was.len(), None, &other, Duration::ZERO), Copied::No));
    // Alike at its beginning, not where reading stopped.
    let header = vec![b'='; 400];
    let was = [&header[..], &lines("first", 50)].concat();
    let other = [&header[..], &lines("other", 90)].concat();
    assert!(matches!(told(&was, was.len(), None, &other, old), Copied::No));
    // Shorter than what was read: being written, or something else.
    let part = &was[..500];
    assert!(matches!(told(&was, was.len(), None, part, Duration::ZERO), Copied::Perhaps));
    assert!(matches!(told(&was, was.len(), None, part, old), Copied::No));
}

#[test]
fn a_copy_of_a_file_that_goes_on_waits_until_that_is_read_as_far() {
    let was = lines("first", 100);
    let (new, old) = (Duration::ZERO, PATIENCE);
    let told = |read, now: &[u8], copy: &[u8], age| told(&was, read, Some(now), copy, age);
    assert!(matches!(told(was.len(), &was, &was, new), Copied::Perhaps));
    assert_eq!(settled(&told(was.len(), &was, &was, old)), Some(was.len() as u64));
    assert_eq!(settled(&told(was.len(), &was, &was[..300], old)), Some(300));
    assert!(matches!(told(300, &was, &was, old), Copied::Perhaps), "not read as far");
    // Truncated, and nobody has said so yet.
    assert!(matches!(told(was.len(), &lines("second", 9), &was, new), Copied::Perhaps));
    assert!(matches!(told(was.len(), &was, &lines("other", 100), new), Copied::No));
    assert!(matches!(told(was.len(), &was, b"", new), Copied::Perhaps));
    assert!(matches!(told(was.len(), &was, b"", old), Copied::No));
}
