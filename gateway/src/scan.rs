//! What a response tells in passing: when tokens came, how many, and the usage that it reports at its end.
//!
//! Nothing is kept but the last few kilobytes, where the usage stands.

use std::time::Instant;

use serde::Deserialize;

/// As the API reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) completion_tokens: u64,
}

/// The usage, with all its details, is shorter than this.
const TAIL: usize = 2048;
const FIELD: &[u8] = b"data:";

/// Looks at a response's bytes as they go by.
#[derive(Debug)]
pub(crate) struct Scan {
    events: Option<Events>,
    tail: Vec<u8>,
    pub(crate) bytes: u64,
}

/// Of server-sent events.
#[derive(Debug)]
struct Events {
    count: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    /// How much of `data:` stands at the current line's start so far; `None` past it.
    matched: Option<usize>,
}

/// What a stream's tokens were like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tokens {
    /// `data:` lines, `[DONE]` included.
    pub(crate) events: u64,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

impl Scan {
    /// `streamed`: whether it is server-sent events.
    pub(crate) fn new(streamed: bool) -> Self {
        let events = Events { count: 0, first: None, last: None, matched: Some(0) };
        Self { events: streamed.then_some(events), tail: Vec::new(), bytes: 0 }
    }

    /// Looks at what goes by. `true` at the first event.
    pub(crate) fn see(&mut self, data: &[u8]) -> bool {
        self.bytes += data.len() as u64;
        if data.len() >= TAIL {
            self.tail.clear();
            self.tail.extend_from_slice(&data[data.len() - TAIL..]);
        } else {
            // Twice as much may pile up, so that not every chunk moves all of it.
            if self.tail.len() + data.len() > 2 * TAIL {
                self.tail.drain(..self.tail.len() - TAIL);
            }
            self.tail.extend_from_slice(data);
        }
        self.events.as_mut().is_some_and(|events| events.see(data))
    }

    /// What the response reports of itself, if it does.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let key = b"\"usage\":";
        // From the end: earlier chunks may carry a running count, or null.
        let places = self.tail.windows(key.len()).enumerate().rev().filter(|(_, window)| window == key);
        places.map(|(place, _)| &self.tail[place + key.len()..]).find_map(|text| {
            serde_json::Deserializer::from_slice(text).into_iter::<Usage>().next().and_then(Result::ok)
        })
    }

    pub(crate) fn tokens(&self) -> Option<Tokens> {
        let events = self.events.as_ref()?;
        Some(Tokens { events: events.count, first: events.first?, last: events.last? })
    }
}

impl Events {
    fn see(&mut self, data: &[u8]) -> bool {
        let before = self.count;
        let mut rest = data;
        while let Some((&byte, after)) = rest.split_first() {
            match self.matched {
                Some(matched) if byte == FIELD[matched] => {
                    self.matched = Some(matched + 1).filter(|matched| *matched < FIELD.len());
                    self.count += u64::from(self.matched.is_none());
                    rest = after;
                }
                Some(_) if byte == b'\n' || byte == b'\r' => {
                    self.matched = Some(0);
                    rest = after;
                }
                _ => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        self.matched = Some(0);
                        rest = &rest[end + 1..];
                    }
                    None => {
                        self.matched = None;
                        rest = &[];
                    }
                },
            }
        }
        if self.count == before {
            return false;
        }
        let now = Instant::now();
        self.last = Some(now);
        let first = self.first.is_none();
        self.first.get_or_insert(now);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": ping\n\ndata: {\"a\":\"data: x\"}\n\ndata: {\"usage\":null}\r\n\r\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"x\":{\"y\":1}}}\n\ndata: [DONE]\n\n";

    #[test]
    fn events_are_counted_however_the_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut scan = Scan::new(true);
            let firsts = STREAM.as_bytes().chunks(size).filter(|chunk| scan.see(chunk)).count();
            assert_eq!((firsts, scan.tokens().unwrap().events), (1, 4), "in pieces of {size}");
            assert_eq!(scan.usage(), Some(Usage { prompt_tokens: 7, completion_tokens: 3 }));
            assert_eq!(scan.bytes, STREAM.len() as u64);
        }
    }

    #[test]
    fn usage_is_found_at_the_end_of_a_long_response_and_only_there() {
        let mut scan = Scan::new(false);
        scan.see(&[b'x'; 10_000]);
        scan.see(b"\"usage\": {\"prompt_tokens\": 1, \"completion_tokens\": 2, \"total_tokens\": 3}}");
        assert_eq!(scan.usage(), Some(Usage { prompt_tokens: 1, completion_tokens: 2 }));
        assert_eq!(scan.tokens(), None);
        for _ in 0..10 {
            scan.see(&[b'y'; 1000]);
            assert!(scan.tail.len() <= 2 * TAIL);
        }
        assert_eq!(scan.usage(), None);
        assert_eq!(Scan::new(true).tokens(), None);
    }
}
