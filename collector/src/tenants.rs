//! How much of something that all share each tenant has.
//!
//! It bounds nothing: who may have how much says the part that shares the thing out. A tenant that has nothing
//! is forgotten, so names that somebody makes up take no memory without end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Tenants that have nothing are forgotten when there are twice as many as there were, and so many more.
const FEW: usize = 64;

/// What each tenant has, as a number.
#[derive(Debug, Default)]
pub struct Tenants(Mutex<Table>);

/// One tenant's number. It is kept by whoever has something, and the tenant is known as long as anybody keeps it.
#[derive(Debug)]
pub struct Tenant(Arc<Has>);

#[derive(Debug)]
struct Has {
    name: Arc<str>,
    number: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    of: HashMap<Arc<str>, Arc<Has>, foldhash::fast::RandomState>,
    /// Those that have nothing are forgotten when there are so many.
    most: usize,
}

impl Tenants {
    /// How much a tenant has.
    pub fn has(&self, name: &str) -> u64 {
        self.lock().of.get(name).map_or(0, |has| has.number.load(Ordering::Relaxed))
    }

    /// Gives a tenant so much more.
    pub fn give(&self, name: &Arc<str>, more: u64) -> Tenant {
        let given = self.lock().tenant(name);
        given.0.number.fetch_add(more, Ordering::Relaxed);
        given
    }

    /// Gives a tenant so much more if `allow` does, which is told how much it has. Nobody else is asked meanwhile.
    ///
    /// # Errors
    /// Those of `allow`; then it has as much as before.
    pub fn give_if<E>(
        &self,
        name: &Arc<str>,
        more: u64,
        allow: impl FnOnce(u64) -> Result<(), E>,
    ) -> Result<Tenant, E> {
        let mut table = self.lock();
        let given = table.tenant(name);
        allow(given.0.number.load(Ordering::Relaxed))?;
        given.0.number.fetch_add(more, Ordering::Relaxed);
        Ok(given)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenant {
    /// Who it is.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The tenant has so much less.
    pub fn give_back(&self, less: u64) {
        self.0.number.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Table {
    fn tenant(&mut self, name: &Arc<str>) -> Tenant {
        if let Some(tenant) = self.of.get(name) {
            return Tenant(Arc::clone(tenant));
        }
        if self.of.len() >= self.most {
            // Kept by the table alone: nobody has anything.
            self.of.retain(|_, tenant| Arc::strong_count(tenant) > 1);
            self.most = self.of.len() * 2 + FEW;
        }
        let new = || Arc::new(Has { name: Arc::clone(name), number: AtomicU64::new(0) });
        Tenant(Arc::clone(self.of.entry(Arc::clone(name)).or_insert_with(new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_counted_until_it_is_given_back() {
        let tenants = Tenants::default();
        let (first, second) = (tenants.give(&"a".into(), 2), tenants.give(&"a".into(), 3));
        assert_eq!((tenants.has("a"), tenants.has("b")), (5, 0));
        assert_eq!(tenants.give_if(&"a".into(), 7, Err).unwrap_err(), 5);
        first.give_back(2);
        assert_eq!(tenants.has("a"), 3);
        second.give_back(3);
        assert_eq!(tenants.has("a"), 0);
    }

    #[test]
    fn tenants_without_end_take_no_memory_without_end() {
        let tenants = Tenants::default();
        let kept: Vec<_> = (0..100).map(|n| tenants.give(&format!("kept {n}").into(), 1)).collect();
        for n in 0..10_000 {
            tenants.give(&format!("{n}").into(), 1).give_back(1);
        }
        for n in 0..10_000 {
            assert!(tenants.give_if(&format!("refused {n}").into(), 1, Err).is_err());
        }
        let count = tenants.lock().of.len();
        assert!(count <= 2 * kept.len() + FEW, "{count}");
        assert!(
            (0..100).all(|n| tenants.has(&format!("kept {n}")) == 1),
            "who has something is known"
        );
    }
}
