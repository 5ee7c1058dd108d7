//! Pool: threads, one a core, that scan extents. What is on its way is bounded, so memory is a few
//! extents a core whatever the archive's size.

use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender};

use super::{
    Error,
    extents::{Extent, Extents},
    scan::{Found, Scan, Unpack},
};

/// Extents on the way at once, a worker.
const JOBS_PER_WORKER: usize = 3;

/// Scans extents. Threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: Sender<Job>,
    results: Receiver<(u32, Found)>,
    workers: usize,
    /// Handed out and not received yet.
    out: usize,
}

struct Job {
    number: u32,
    extent: Extent,
    file: std::sync::Arc<std::fs::File>,
}

impl Pool {
    /// Starts so many threads.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        workers: usize,
        scan: Scan<'scope>,
    ) -> Self {
        let (jobs, to_do) = crossbeam_channel::unbounded::<Job>();
        let (done, results) = crossbeam_channel::unbounded();
        for _ in 0..workers {
            let (to_do, done) = (to_do.clone(), done.clone());
            scope.spawn(move || {
                // Only out of memory could this fail; whoever waits for results sees their end.
                let Some(mut unpack) = Unpack::new() else { return };
                let mut raw = Vec::new();
                for Job { number, extent, file } in to_do {
                    let found = scan.extent(&mut unpack, &mut raw, file, &extent);
                    if done.send((number, found)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { jobs, results, workers, out: 0 }
    }

    /// How many threads there are.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// Whether another extent may be handed out.
    pub(super) fn has_room(&self) -> bool {
        self.out < self.workers * JOBS_PER_WORKER
    }

    /// Hands out an extent. One that retention removed meanwhile has nothing in it.
    pub(super) fn request(
        &mut self,
        number: u32,
        extents: &Extents,
    ) -> Result<Option<Found>, Error> {
        let Some(&extent) = extents.get(number) else { return Ok(Some(Found::default())) };
        let Some(file) = extents.file(&extent)? else { return Ok(Some(Found::default())) };
        self.jobs.send(Job { number, extent, file }).map_err(|_ended| Error::Memory)?;
        self.out += 1;
        Ok(None)
    }

    /// The next result, whichever it is.
    pub(super) fn receive(&mut self) -> Result<(u32, Found), Error> {
        let result = self.results.recv().map_err(|_ended| Error::Memory)?;
        self.out -= 1;
        Ok(result)
    }

    /// Waits for what is on its way, and throws it away.
    pub(super) fn drain(&mut self) -> Result<(), Error> {
        while self.out > 0 {
            self.receive()?;
        }
        Ok(())
    }
}
