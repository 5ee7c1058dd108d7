//! The server's addresses: the system's answer, with those at which deliveries failed last. A name
//! with several addresses is of no use if all connections go to the one that answers 503.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// Addresses that are remembered at most.
const MOST: usize = 16;

/// Resolves names, never out of a memory of its own. Clones share what they know.
#[derive(Clone)]
pub(super) struct Addresses {
    system: GaiResolver,
    /// Where deliveries failed, the latest failure last.
    failed: Arc<Mutex<Vec<IpAddr>>>,
}

impl Addresses {
    pub(super) fn new() -> Self {
        Self { system: GaiResolver::new(), failed: Arc::default() }
    }

    /// A delivery failed there: the next connection rather goes to another one.
    pub(super) fn failed(&self, address: IpAddr) {
        let mut failed = self.lock();
        failed.retain(|other| *other != address);
        if failed.len() == MOST {
            failed.remove(0);
        }
        failed.push(address);
    }

    /// A delivery went through.
    pub(super) fn works(&self, address: IpAddr) {
        self.lock().retain(|other| *other != address);
    }

    /// In the order they are to be tried.
    fn order(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let failed = self.lock();
        // None comes first, and the sort is stable.
        addresses.sort_by_key(|at| failed.iter().position(|failed| *failed == at.ip()));
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Name> for Addresses {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (this, resolving) = (self.clone(), self.system.call(name));
        Box::pin(async move { Ok(this.order(resolving.await?.collect()).into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_deliveries_failed_is_tried_last() {
        let addresses = Addresses::new();
        let all: Vec<SocketAddr> =
            ["10.0.0.1:0", "10.0.0.2:0", "[::1]:0"].map(|text| text.parse().unwrap()).into();
        let order = |given: [usize; 3]| {
            let tried = addresses.order(given.map(|at| all[at]).into());
            tried.iter().map(|at| all.iter().position(|it| it == at).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(order([1, 0, 2]), [1, 0, 2], "the system's order");
        addresses.failed(all[0].ip());
        assert_eq!(order([0, 1, 2]), [1, 2, 0]);
        addresses.failed(all[1].ip());
        addresses.failed(all[2].ip());
        assert_eq!(order([2, 1, 0]), [0, 1, 2], "the earliest failure first");
        addresses.works(all[2].ip());
        assert_eq!(order([0, 1, 2]), [2, 0, 1]);
        for number in 0..1_000_u32 {
            addresses.failed(IpAddr::V4(number.into()));
        }
        assert_eq!(addresses.lock().len(), MOST);
    }
}
