//! The console sink: records on standard output, for people or as JSON, safe to look at.
//!
//! Acknowledges what the operating system took. It is no storage: a pipe's reader may still throw
//! it away.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    time::Duration,
};

use tokio::runtime;

use super::{Context, Handle, StartError, payload, thread};
use crate::{batch::Batch, config, terminal};

mod show;
mod template;

/// A destination that cannot take more right now (a non-blocking pipe) is asked again after this.
const BUSY: Duration = Duration::from_millis(10);
/// One that fails (a full disk behind a redirection) after this.
const FAILED: Duration = Duration::from_secs(1);

/// Starts the sink's thread, which writes records to standard output.
///
/// # Errors
/// What can never work as configured.
pub fn start(
    config: &config::Console,
    context: Context,
    runtime: &runtime::Handle,
) -> Result<Handle, StartError> {
    let stdout = io::stdout();
    let color = match config.color {
        config::Color::Always => true,
        config::Color::Never => false,
        config::Color::Auto => terminal::colors(&stdout),
    };
    // A descriptor of its own, so that this module alone knows how much of a batch was written.
    let out = stdout.as_fd().try_clone_to_owned().map_err(|error| StartError::Invalid {
        sink: context.name.clone(),
        what: format!("standard output cannot be used: {error}"),
        advice: "Run the agent with an open standard output, or use another sink.".into(),
    })?;
    start_on(File::from(out), config, color, context, runtime)
}

/// The same on any writer.
pub(super) fn start_on(
    out: impl Write + Send + 'static,
    config: &config::Console,
    color: bool,
    context: Context,
    runtime: &runtime::Handle,
) -> Result<Handle, StartError> {
    let name = context.name.clone();
    let (format, template) = (config.format, config.template.clone());
    thread::spawn(&name, runtime, move |inbox| {
        Console { out, format, template, color, context }.run(&inbox);
    })
}

struct Console<W> {
    out: W,
    format: config::ConsoleFormat,
    template: config::Template,
    color: bool,
    context: Context,
}

/// Nobody will ever read what is written.
struct Broken;

impl<W: Write> Console<W> {
    fn run(mut self, inbox: &thread::Inbox) {
        while let Some(batch) = inbox.next() {
            let text = self.render(&batch);
            match self.write(&text, inbox) {
                Ok(true) => {
                    self.context.metrics.delivered(batch.payload.len());
                    batch.delivered(None);
                }
                Ok(false) => return,
                Err(Broken) => {
                    self.hold(batch, inbox);
                    return;
                }
            }
        }
    }

    fn render(&self, batch: &Batch) -> Vec<u8> {
        let raw = match payload::decompress(&batch.payload, batch.compression) {
            Ok(raw) => raw,
            Err(error) => {
                // Of our own making, so it cannot fail; if it does, say so instead of inventing.
                tracing::error!(sink = self.context.name, %error, "Cannot open a batch.");
                return b"(everyline: a batch that could not be opened)\n".to_vec();
            }
        };
        match self.format {
            config::ConsoleFormat::Json => show::json(&raw, batch.framing),
            config::ConsoleFormat::Human if !self.template.is_empty() => {
                template::lines(&raw, batch.framing, &self.template)
            }
            config::ConsoleFormat::Human => show::human(&raw, batch.framing, self.color),
        }
    }

    /// Writes everything, however long it takes. False: the sink was stopped.
    fn write(&mut self, mut text: &[u8], inbox: &thread::Inbox) -> Result<bool, Broken> {
        let mut failing = false;
        loop {
            let step =
                if text.is_empty() { self.out.flush().map(|()| 0) } else { self.out.write(text) };
            let pause = match step {
                Ok(_) if text.is_empty() => {
                    if failing {
                        self.context.troubles.mended();
                        tracing::info!(sink = self.context.name, "Standard output works again.");
                    }
                    return Ok(true);
                }
                Ok(written) if written > 0 => {
                    text = &text[written..];
                    continue;
                }
                Ok(_) => FAILED,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => BUSY,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.context.metrics.error("io");
                    return Err(Broken);
                }
                Err(error) => {
                    self.context.metrics.error("io");
                    self.context.troubles.failed(&format!(
                        "Cannot write to standard output: {error}. Trying again."
                    ));
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(
                            sink = self.context.name, %error,
                            "Cannot write to standard output; trying again every second."
                        );
                    }
                    FAILED
                }
            };
            if inbox.pause(pause).is_err() {
                return Ok(false);
            }
        }
    }

    /// Keeps what comes unsettled, so that offsets stay and nothing is lost. The sink's memory
    /// budget bounds what is held.
    fn hold(&self, first: Batch, inbox: &thread::Inbox) {
        self.context.troubles.failed(
            "Standard output was closed by its reader. What was not written is read again when the \
             agent is started anew.",
        );
        tracing::error!(
            sink = self.context.name,
            "Standard output was closed by its reader; this sink delivers no more. Nothing is \
             lost: what it could not write is read again when the agent is started anew."
        );
        let mut held = vec![first];
        while let Some(batch) = inbox.next() {
            held.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::deliver::testing::{Receipts, context};

    /// Takes a few bytes at a time and fails between them.
    struct Flaky {
        out: Arc<Mutex<Vec<u8>>>,
        calls: usize,
    }

    impl Write for Flaky {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls % 3 {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => {
                    let n = buf.len().min(700);
                    self.out.lock().unwrap().extend_from_slice(&buf[..n]);
                    Ok(n)
                }
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn console(format: config::ConsoleFormat) -> config::Console {
        config::Console { format, ..config::Console::default() }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_busy_pipe_gets_every_byte_once() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let flaky = Flaky { out: out.clone(), calls: 0 };
        let runtime = runtime::Handle::current();
        let sink = start_on(
            flaky,
            &console(config::ConsoleFormat::Json),
            false,
            context("c", None),
            &runtime,
        )
        .unwrap();
        let receipts = Receipts::new();
        let mut file = receipts.file(0);
        let batch = file.batch(50);
        let expected = batch.payload.to_vec();
        sink.queue.send(batch).unwrap();
        drop(sink.queue);
        sink.task.await.unwrap();
        assert_eq!(*out.lock().unwrap(), expected);
        assert_eq!(receipts.all().len(), 1);
    }

    #[tokio::test]
    async fn a_broken_pipe_settles_nothing_and_ends_with_the_queue() {
        let runtime = runtime::Handle::current();
        let sink = start_on(
            Closed,
            &console(config::ConsoleFormat::Human),
            false,
            context("c", None),
            &runtime,
        )
        .unwrap();
        let receipts = Receipts::new();
        let mut file = receipts.file(0);
        for _ in 0..3 {
            sink.queue.send(file.batch(2)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!sink.queue.is_closed(), "it must hold batches, not refuse them");
        drop(sink.queue);
        sink.task.await.unwrap();
        assert!(receipts.all().is_empty());
    }
}
