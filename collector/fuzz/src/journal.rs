//! The checkpoint's journal: any bytes, and records of any content, damaged or cut off anywhere.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use collector::{
    checkpoint::{Change, State, Store},
    fuzzing::{self, Recovered},
};

use super::input::Input;

/// Choices: raw or framed, on disk or not, how it is damaged, and where. Content: the journal's bytes, or a
/// record's JSON on each line.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let framed = input.choice(2) == 1;
    let on_disk = input.choice(8) == 7;
    let bytes = match framed {
        true => framed_journal(&mut input),
        false => input.content.to_vec(),
    };
    let recovered = fuzzing::recover(&bytes);
    adds_up(&bytes, &recovered);
    reads_back(&recovered.state);
    if on_disk {
        opens(&bytes, &recovered);
    }
}

/// A journal of the content's lines, damaged as chosen. Panics if that costs more than the record that is hit.
fn framed_journal(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    fuzzing::encode_header(&mut bytes);
    // Where each record ends, and what it holds.
    let mut records = vec![(bytes.len(), None)];
    for json in input.content.split(|byte| *byte == b'\n') {
        let head = format!("{:08x} {} ", crc32c::crc32c(json), json.len());
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(json);
        bytes.push(b'\n');
        records.push((bytes.len(), serde_json::from_slice::<Vec<Change>>(json).ok()));
    }
    let how = input.choice(3);
    let place = input.place(bytes.len());
    let expected: Vec<_> = match how {
        0 => records.iter().map(|record| &record.1).collect(),
        1 => {
            bytes.truncate(place);
            let whole = records.iter().take_while(|record| record.0 <= place);
            whole.map(|record| &record.1).collect()
        }
        _ => {
            let terminator = records.iter().any(|record| record.0 == place + 1);
            bytes[place] ^= input.byte().max(1);
            let hit = records.iter().position(|record| place < record.0).unwrap_or(0);
            // What stands in a newline's place costs nothing before it.
            let others = records.iter().enumerate().filter(|(at, _)| *at != hit || terminator);
            others.map(|(_, record)| &record.1).collect()
        }
    };
    let mut state = State::default();
    let changes = expected.into_iter().flatten().flatten().cloned();
    changes.for_each(|change| state.apply(change));
    let recovered = fuzzing::recover(&bytes);
    assert_eq!(recovered.state, state, "damage of kind {how} at {place}");
    bytes
}

/// Every byte is in a record, in a stretch that is damaged, or behind the last whole record.
fn adds_up(bytes: &[u8], recovered: &Recovered) {
    if recovered.foreign_version.is_some() {
        assert_eq!(recovered.state, State::default(), "a foreign version is not read");
        return;
    }
    let Recovered { whole_len, torn_len, damaged, .. } = recovered;
    assert_eq!(whole_len + torn_len, bytes.len());
    let mut end = 0;
    for stretch in damaged {
        assert!(end <= stretch.start && stretch.start < stretch.end, "{damaged:?}");
        end = stretch.end;
    }
    assert!(end <= *whole_len);
    let again = fuzzing::recover(&bytes[..*whole_len]);
    assert_eq!((&again.state, again.torn_len), (&recovered.state, 0), "without its torn end");
}

/// A state that is written is read back, whatever is in it.
fn reads_back(state: &State) {
    let mut bytes = Vec::new();
    fuzzing::encode_header(&mut bytes);
    let positions = state.positions.iter().map(|(sink, position)| Change::Position {
        sink: sink.clone(),
        position: position.clone(),
    });
    let totals = state.totals.iter();
    let totals = totals.map(|(name, value)| Change::Total { name: name.clone(), value: *value });
    fuzzing::encode_record(&positions.chain(totals).collect::<Vec<_>>(), &mut bytes);
    for (file, entry) in &state.entries {
        let mut record = vec![Change::File(entry.clone())];
        let cuts = state.cuts.get(file).cloned();
        record.extend(cuts.map(|at| Change::Cuts { file: *file, at }));
        let guards = state.prefixes.get(file).copied();
        record.extend(guards.map(|guards| Change::Prefixes { file: *file, guards }));
        fuzzing::encode_record(&record, &mut bytes);
    }
    let again = fuzzing::recover(&bytes);
    assert!(again.damaged.is_empty() && !again.headless && again.torn_len == 0, "{again:?}");
    assert_eq!(&again.state, state, "what was written is not what is read");
}

/// A checkpoint of these bytes opens, says so if it is damaged, and goes on from there.
fn opens(bytes: &[u8], recovered: &Recovered) {
    let dir = state_dir();
    fs::remove_dir_all(dir).ok();
    fs::create_dir_all(dir).expect("room for a state directory");
    fs::write(dir.join("checkpoint"), bytes).expect("room for a checkpoint");
    let (mut store, told) = Store::open(dir).expect("any checkpoint opens");
    assert_eq!(store.state(), &recovered.state);
    let damaged =
        recovered.headless || !recovered.damaged.is_empty() || recovered.foreign_version.is_some();
    assert_eq!(!told.damage.is_empty(), damaged, "{told:?}");
    store.commit(vec![Change::Total { name: "fuzzed".to_owned(), value: 7 }]).expect("room");
    let state = store.state().clone();
    drop(store);
    let (store, told) = Store::open(dir).expect("it opened before");
    assert!(told.damage.is_empty(), "said twice: {told:?}");
    assert_eq!(store.state(), &state);
}

/// In memory if there is such a filesystem.
fn state_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| super::scratch("journal"))
}
