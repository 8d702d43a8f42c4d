//! Lines from a file or standard input, beside everything else.

use std::io::{BufRead, BufReader, Read};
use std::thread;

use tokio::sync::mpsc;

/// Lines that are read ahead.
const LINES_MAX: usize = 64;

/// Reads lines on a thread of its own. The channel closes at the end of `input`, and at bytes that
/// are not text. The thread ends with the process when nobody takes the lines.
pub(crate) fn lines(input: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    let read = move || {
        for line in BufReader::new(input).lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    // Without the thread there are no lines, as if the input were empty.
    let _ = thread::Builder::new().name("lines".to_owned()).spawn(read);
    receiver
}
