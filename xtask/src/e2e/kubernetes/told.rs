//! What the agent's pods say of losses, while they live: a deleted pod's log goes with it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;

/// Follows the logs of every pod in one namespace.
#[derive(Debug)]
pub(super) struct Told {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Bytes lost, by the pod whose log they were in.
    lost: Mutex<BTreeMap<String, u64>>,
    /// Warnings and errors, for somebody who has to find out.
    said: Mutex<Vec<String>>,
}

const PAUSE: Duration = Duration::from_millis(200);
const SAID: usize = 4_000;

impl Told {
    /// Begins to follow. `pods`: where pods' logs are; `namespace`: the agent's.
    pub(super) fn follow(pods: &Path, namespace: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let (follower, pods) = (Arc::clone(&shared), pods.to_owned());
        let prefix = format!("{namespace}_");
        let thread = std::thread::spawn(move || {
            let mut open: BTreeMap<PathBuf, (File, Vec<u8>)> = BTreeMap::new();
            while !follower.stop.load(Ordering::Relaxed) {
                for path in logs(&pods, &prefix) {
                    if let (false, Ok(file)) = (open.contains_key(&path), File::open(&path)) {
                        open.insert(path, (file, Vec::new()));
                    }
                }
                for (file, rest) in open.values_mut() {
                    // A log that cannot be read says nothing more.
                    file.read_to_end(rest).ok();
                    let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                    for line in rest.drain(..whole).collect::<Vec<_>>().split(|&b| b == b'\n') {
                        follower.take(&String::from_utf8_lossy(line));
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Bytes that were said to be lost, by pod.
    pub(super) fn lost(&self) -> BTreeMap<String, u64> {
        self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that was not said for information only.
    pub(super) fn said(&self) -> Vec<String> {
        self.shared.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn take(&self, line: &str) {
        let Some((_, json)) = line.split_once(" F ") else { return };
        let Ok(event) = serde_json::from_str::<Value>(json) else { return };
        if event["level"] != "INFO" {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() < SAID {
                said.push(json.to_owned());
            }
        }
        if let Some((pod, bytes)) = loss(&event) {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            *lost.entry(pod).or_default() += bytes;
        }
    }
}

/// The pod and the bytes, if the event says that bytes of a pod's log were lost.
fn loss(event: &Value) -> Option<(String, u64)> {
    let fields = if event["fields"].is_object() { &event["fields"] } else { event };
    let message = fields["message"].as_str()?;
    if !message.contains("were lost before they could be read") {
        return None;
    }
    let (_, below) = fields["path"].as_str()?.split_once("/pods/")?;
    let pod = below.split('/').next()?.split('_').nth(1)?;
    Some((pod.to_owned(), fields["bytes"].as_u64()?))
}

/// Live and former log files of the namespace's pods.
fn logs(pods: &Path, prefix: &str) -> Vec<PathBuf> {
    let below = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let pods = below(pods.to_owned());
    let pods = pods.filter(|pod| pod.file_name().to_string_lossy().starts_with(prefix));
    let containers = pods.flat_map(|pod| below(pod.path()));
    let logs = containers.flat_map(|container| below(container.path()));
    // Only live ones: a file that is open is followed under its new name too.
    logs.map(|log| log.path()).filter(|log| log.extension().is_some_and(|e| e == "log")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_added_up_by_pod() {
        let shared = Shared::default();
        let path = "/host/var/log/pods/team-1_app-1_0d7e/main1/0.log";
        for bytes in [10, 5] {
            let event = serde_json::json!({"level": "ERROR", "fields": {
                "message": "Bytes of a log file were lost before they could be read.",
                "path": path, "bytes": bytes, "reason": "deleted_while_down",
            }});
            shared.take(&format!("2026-01-31T10:11:12Z stderr F {event}"));
        }
        shared.take("2026-01-31T10:11:12Z stderr F {\"level\":\"INFO\",\"fields\":{}}");
        shared.take("2026-01-31T10:11:12Z stderr F no JSON");
        assert_eq!(*shared.lost.lock().unwrap(), [("app-1".to_owned(), 15)].into());
        assert_eq!(shared.said.lock().unwrap().len(), 2);
    }
}
