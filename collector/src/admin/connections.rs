//! Who is connected to the port, and who has to go when somebody new comes.
//!
//! The number is bounded. A new connection is always taken, and one that is there is closed for it: one
//! that did nothing for a while before one that does something, of these one of the address that has most,
//! and of these the one that did nothing for longest. So clients that hold their connections, send their
//! requests slowly or read their answers slowly keep nobody else from an answer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// Connections at once. Each takes a descriptor of those that are kept back for the agent itself.
pub(super) const MOST: usize = 32;
/// A connection that did nothing for so long is the first to go.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// The connections that there are.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    all: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    peer: IpAddr,
    /// When it last did something: came, asked, or took a piece of its answer.
    active: Instant,
    /// It is being sent a large answer of this kind.
    sending: Option<Large>,
    closed: Arc<Notify>,
}

/// Answers that take time and memory, so that few are made at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Large {
    Metrics,
    Status,
}

/// A connection's place among the others, until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    all: Arc<Connections>,
    id: u64,
    /// Where it comes from.
    pub(super) peer: IpAddr,
    closed: Arc<Notify>,
}

impl Connections {
    /// Takes a connection, and closes another one if there are too many: the address of that.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        now: Instant,
    ) -> (Connection, Option<IpAddr>) {
        let mut table = self.table();
        let victim = if table.all.len() >= MOST { table.victim(now) } else { None };
        let gave_way = victim.and_then(|id| table.all.remove(&id)).map(|entry| {
            entry.closed.notify_one();
            entry.peer
        });
        table.next += 1;
        let (id, closed) = (table.next, Arc::new(Notify::new()));
        let entry = Entry { peer, active: now, sending: None, closed: Arc::clone(&closed) };
        table.all.insert(id, entry);
        (Connection { all: Arc::clone(self), id, peer, closed }, gave_way)
    }

    /// Closes those that take a large answer of this kind and did not take a piece of it for a while.
    pub(super) fn close_slow(&self, kind: Large, now: Instant) -> usize {
        let mut closed = 0;
        self.table().all.retain(|_, entry| {
            let slow = entry.sending == Some(kind) && entry.is_slow(now);
            if slow {
                entry.closed.notify_one();
                closed += 1;
            }
            !slow
        });
        closed
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn victim(&self, now: Instant) -> Option<u64> {
        let mut of_peer: HashMap<IpAddr, usize> = HashMap::new();
        for entry in self.all.values() {
            *of_peer.entry(entry.peer).or_default() += 1;
        }
        let order = |(id, entry): (&u64, &Entry)| {
            let many = of_peer.get(&entry.peer).copied().unwrap_or(0);
            let quiet = now.saturating_duration_since(entry.active);
            ((entry.is_slow(now), many, quiet), *id)
        };
        self.all.iter().map(order).max().map(|(_, id)| id)
    }
}

impl Entry {
    fn is_slow(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.active) >= SLOW
    }
}

impl Connection {
    /// It did something.
    pub(super) fn is_active(&self) {
        self.change(|entry| entry.active = Instant::now());
    }

    /// It is being sent a large answer, or is no more.
    pub(super) fn sends(&self, kind: Option<Large>) {
        self.change(|entry| (entry.sending, entry.active) = (kind, Instant::now()));
    }

    /// Comes to an end when it has to give way.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.all.table().all.get_mut(&self.id) {
            change(entry);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.table().all.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn is_there(connection: &Connection) -> bool {
        connection.all.table().all.contains_key(&connection.id)
    }

    #[test]
    fn the_slow_go_first_then_those_of_the_address_with_most() {
        let all = Arc::new(Connections::default());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let lone = all.admit(peer(1), at(0)).0;
        let many: Vec<_> = (1..MOST as u64).map(|n| all.admit(peer(2), at(n)).0).collect();
        // None is slow: of the address with most, the one that was quiet for longest.
        let (probe, closed) = all.admit(peer(3), at(100));
        assert!(closed == Some(peer(2)) && is_there(&probe) && is_there(&lone));
        assert!(!is_there(&many[0]) && is_there(&many[1]));
        // All but the last are slow.
        many[1].change(|entry| entry.active = at(1_500));
        let (_other, closed) = all.admit(peer(3), at(1_500));
        assert!(closed == Some(peer(2)) && is_there(&many[1]) && !is_there(&many[2]));
        assert!(is_there(&lone));
        drop(many);
        // Alone on its address, but the only one that does nothing.
        let busy: Vec<_> = (0..MOST as u64).map(|_| all.admit(peer(4), at(2_000)).0).collect();
        assert!(!is_there(&lone) && busy.len() == MOST);
        assert!(all.table().all.len() <= MOST);
    }

    #[test]
    fn whoever_takes_no_piece_of_a_large_answer_gives_way_to_the_next() {
        let all = Arc::new(Connections::default());
        let now = Instant::now();
        let (slow, idle) = (all.admit(peer(1), now).0, all.admit(peer(1), now).0);
        slow.sends(Some(Large::Status));
        let later = Instant::now() + SLOW;
        assert_eq!(all.close_slow(Large::Metrics, later), 0);
        assert_eq!(all.close_slow(Large::Status, now), 0);
        assert_eq!(all.close_slow(Large::Status, later), 1);
        assert!(!is_there(&slow) && is_there(&idle));
    }
}
