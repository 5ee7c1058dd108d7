//! What libFuzzer says at the end of a run, as far as it is told on.

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Inputs that were tried.
    pub executions: u64,
    /// Edges of the code that were taken by any of them.
    pub edges: u64,
    /// Files with inputs that made the target fail.
    pub crashes: Vec<String>,
}

impl Said {
    /// Reads all that it said.
    pub(super) fn of(text: &str) -> Self {
        let mut said = Self::default();
        for line in text.lines() {
            if let Some(input) = line.split_once("Test unit written to ") {
                said.crashes.push(input.1.trim().to_owned());
            } else if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                said.executions = count.trim().parse().unwrap_or(0);
            } else if line.starts_with('#')
                && let Some((_, rest)) = line.split_once(" cov: ")
            {
                let edges = rest.split_whitespace().next().and_then(|edges| edges.parse().ok());
                said.edges = edges.unwrap_or(said.edges);
                said.executions = number(line).unwrap_or(said.executions);
            }
        }
        said
    }
}

/// How many inputs were tried when a line was said. (A run that fails has no statistics.)
fn number(line: &str) -> Option<u64> {
    line.strip_prefix('#')?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let said = Said::of(
            "INFO: seed corpus: files: 4 min: 1b max: 9b total: 14b rss: 34Mb\n\
             #5\tINITED cov: 11 ft: 12 corp: 4/14b exec/s: 0 rss: 35Mb\n\
             #4096\tpulse  cov: 73 ft: 99 corp: 20/300b lim: 43 exec/s: 2048 rss: 40Mb\n\
             #9001\tDONE   cov: 74 ft: 101 corp: 21/310b lim: 80 exec/s: 3000 rss: 41Mb\n\
             Done 9001 runs in 3 second(s)\n\
             stat::number_of_executed_units: 9001\n\
             stat::average_exec_per_sec:     3000\n",
        );
        assert_eq!(said, Said { executions: 9001, edges: 74, crashes: Vec::new() });
    }

    #[test]
    fn a_crash_is_named() {
        let said = Said::of(
            "#512\tNEW    cov: 20 ft: 21 corp: 3/9b lim: 4 exec/s: 0 rss: 35Mb\n\
             thread '<unnamed>' panicked at src/cri.rs:1:1:\n\
             artifact_prefix='/t/'; Test unit written to /t/crash-0a\nBase64: Cg==\n",
        );
        let crashes = vec!["/t/crash-0a".to_owned()];
        assert_eq!(said, Said { executions: 512, edges: 20, crashes });
    }
}
