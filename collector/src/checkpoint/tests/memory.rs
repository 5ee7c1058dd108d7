//! What the checkpoint keeps of a file in memory, of which there may be tens of thousands.

use std::{mem::size_of, sync::Arc};

use super::world::{PLAIN, POSITIONED, entry, moved};
use crate::checkpoint::{Change, FileEntry, Store};

#[test]
fn entry_fills_its_size_class() {
    // The allocator would round one byte more up to 160.
    assert!(size_of::<FileEntry>() <= 128, "{}", size_of::<FileEntry>());
}

#[test]
fn names_read_back_are_shared_by_all_files() {
    let temp = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(temp.path()).unwrap();
    let known = |number, sink: &str| {
        let mut entry = entry(number);
        entry.sinks.insert(sink.into(), Default::default());
        Change::File(Box::new(entry))
    };
    store.commit(vec![known(1, PLAIN), known(2, PLAIN)]).unwrap();
    store.commit(vec![moved(1, POSITIONED, 1), moved(2, POSITIONED, 2)]).unwrap();
    drop(store);

    let (store, recovered) = Store::open(temp.path()).unwrap();
    let names = |entry: &FileEntry| entry.sinks.keys().cloned().collect::<Vec<_>>();
    let all: Vec<_> = store.state().entries.values().map(|entry| names(entry)).collect();
    assert_eq!(all.len(), 2);
    for of_a_file in all.into_iter().chain(recovered.entries.iter().map(names)) {
        assert_eq!(of_a_file.iter().map(|name| &**name).collect::<Vec<_>>(), [POSITIONED, PLAIN]);
        for (name, first) in of_a_file.iter().zip(names(&recovered.entries[0])) {
            assert!(Arc::ptr_eq(name, &first));
        }
    }
    let sources = store.state().entries.values().map(|entry| &entry.source);
    for (held, handed_out) in sources.zip(&recovered.entries) {
        assert!(Arc::ptr_eq(held, &handed_out.source));
    }
}
