//! Which records of a batch are sent next, when the server has refused it: halves of what it refused,
//! down to the single record, so that all others go on. No I/O.
//!
//! A record that is refused by itself is its source's matter: the other sources' records are sent
//! before anything else of that source, in one piece, and without it.

/// What is left of a batch, in pieces.
pub(super) struct Narrowing {
    /// The last is the next to send. Each source's records are in their order, from piece to piece.
    pieces: Vec<Piece>,
    /// Refusals since something was taken.
    fruitless: u32,
    /// How many of those there may be before everything is taken to be refused.
    patience: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    records: Vec<u32>,
    /// The one below is its other half, and one of the two was refused for its content.
    first_half: bool,
    /// It holds what was refused, so that there is no need to send it whole.
    suspect: bool,
}

/// What a refusal comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Go on with the next piece.
    Narrowed,
    /// This record is refused by itself.
    Found(u32),
    /// Nothing is taken, whatever is sent: the piece (these records) is not halved further.
    Everything(Vec<u32>),
}

impl Narrowing {
    /// A batch's records, to be sent whole.
    pub(super) fn new(records: Vec<u32>) -> Self {
        // One record is found in as many steps as the batch can be halved.
        let depth = u32::BITS - (records.len() as u32).leading_zeros();
        let mut narrowing = Self { pieces: Vec::new(), fruitless: 0, patience: 2 * depth + 2 };
        narrowing.push(records);
        narrowing
    }

    /// The records to send next. None: nothing is left.
    pub(super) fn next(&mut self) -> Option<&[u32]> {
        while let Some(piece) = self.pieces.last()
            && piece.suspect
            && piece.records.len() > 1
        {
            self.halve(true);
        }
        self.pieces.last().map(|piece| &*piece.records)
    }

    /// The piece was taken.
    pub(super) fn taken(&mut self) {
        self.fruitless = 0;
        let Some(piece) = self.pieces.pop() else { return };
        if piece.first_half
            && let Some(second) = self.pieces.last_mut()
        {
            second.suspect = true;
        }
    }

    /// The piece was refused; `for_content`: not for its size, of which a half may be taken whole.
    pub(super) fn refused(&mut self, for_content: bool) -> Refusal {
        self.fruitless += 1;
        let Some(piece) = self.pieces.last() else { return Refusal::Narrowed };
        if let [record] = piece.records[..] {
            self.pieces.pop();
            return Refusal::Found(record);
        }
        if self.fruitless > self.patience {
            self.fruitless = 0;
            return Refusal::Everything(piece.records.clone());
        }
        self.halve(for_content);
        Refusal::Narrowed
    }

    /// Sends the records of one source last; gives them back.
    pub(super) fn put_off(&mut self, is_its: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut all: Vec<u32> = self.pieces.drain(..).flat_map(|piece| piece.records).collect();
        all.sort_unstable();
        let (its, others) = all.into_iter().partition(|&record| is_its(record));
        self.push(others);
        its
    }

    /// Has these sent after all others.
    pub(super) fn push_last(&mut self, records: Vec<u32>) {
        self.push(records);
        if let Some(piece) = self.pieces.pop() {
            self.pieces.insert(0, piece);
        }
    }

    fn push(&mut self, records: Vec<u32>) {
        if !records.is_empty() {
            self.pieces.push(Piece { records, first_half: false, suspect: false });
        }
    }

    fn halve(&mut self, for_content: bool) {
        let Some(Piece { mut records, .. }) = self.pieces.pop() else { return };
        let second = records.split_off(records.len() / 2);
        self.push(second);
        self.push(records);
        if let Some(first) = self.pieces.last_mut() {
            first.first_half = for_content;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Delivers `count` records to a server that refuses `bad`, one source, dropping what is found.
    fn run(count: u32, bad: &BTreeSet<u32>, for_content: bool) -> (Vec<u32>, Vec<u32>, u32) {
        let mut narrowing = Narrowing::new((0..count).collect());
        let (mut taken, mut found, mut requests) = (Vec::new(), Vec::new(), 0);
        while let Some(records) = narrowing.next() {
            requests += 1;
            let records = records.to_vec();
            if records.iter().any(|record| bad.contains(record)) {
                match narrowing.refused(for_content) {
                    Refusal::Found(record) => found.push(record),
                    Refusal::Narrowed | Refusal::Everything(_) => {}
                }
            } else {
                taken.extend(records);
                narrowing.taken();
            }
        }
        (taken, found, requests)
    }

    #[test]
    fn one_record_is_found_in_as_many_requests_as_there_are_halves() {
        for bad in [0, 1, 511, 512, 1023] {
            let (taken, found, requests) = run(1024, &[bad].into(), true);
            assert_eq!((taken.len(), found), (1023, vec![bad]));
            assert!(requests <= 22, "{requests} for {bad}");
        }
    }

    #[test]
    fn a_server_that_refuses_everything_is_not_asked_thousands_of_times() {
        let mut narrowing = Narrowing::new((0..10_000).collect());
        let mut requests = 0;
        loop {
            assert!(narrowing.next().is_some());
            requests += 1;
            match narrowing.refused(true) {
                Refusal::Everything(records) => {
                    assert!(records.len() > 1);
                    break;
                }
                Refusal::Found(_) | Refusal::Narrowed => {}
            }
        }
        assert!(requests < 40, "{requests}");
    }

    #[test]
    fn the_others_come_before_the_rest_of_a_source_and_in_one_piece() {
        let mut narrowing = Narrowing::new((0..8).collect());
        while narrowing.next().unwrap().len() > 1 {
            narrowing.refused(true);
        }
        assert_eq!(narrowing.refused(true), Refusal::Found(0));
        let its = narrowing.put_off(|record| record % 2 == 0);
        assert_eq!(its, [2, 4, 6]);
        narrowing.push_last(its);
        assert_eq!(narrowing.next(), Some(&[1, 3, 5, 7][..]));
        narrowing.taken();
        assert_eq!(narrowing.next(), Some(&[2, 4, 6][..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn exactly_what_is_refused_is_found_and_the_rest_is_taken_once_in_order(
            count in 1_u32..200,
            bad in proptest::collection::btree_set(0_u32..200, 0..8),
            for_content: bool,
        ) {
            let (taken, found, _) = run(count, &bad, for_content);
            let is_bad = |record: &u32| bad.contains(record);
            prop_assert_eq!(found, (0..count).filter(is_bad).collect::<Vec<_>>());
            prop_assert_eq!(taken, (0..count).filter(|r| !is_bad(r)).collect::<Vec<_>>());
        }
    }
}
