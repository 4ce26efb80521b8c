//! Traces as files: Mooncake's JSON lines and Azure's CSV, a request at a time.

use std::io::{self, Write};

use super::Arrival;

const PS_PER_NS: u64 = 1000;

/// Writes arrivals as a trace file that the importers read.
#[derive(Debug)]
pub struct TraceWriter<W> {
    out: W,
    kind: Kind,
    text: Vec<u8>,
    zero_ps: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Times in milliseconds since the first request, so that the first is a whole 0: a fraction there is what tells
    /// other formats apart.
    Mooncake,
    /// Times on the calendar, this far from the Unix epoch at the trace's zero.
    Azure { epoch_ns: i64 },
}

impl<W: Write> TraceWriter<W> {
    /// Mooncake's JSON lines. Times are kept to the nanosecond; the calendar is lost.
    pub fn mooncake_jsonl(out: W) -> Self {
        Self { out, kind: Kind::Mooncake, text: Vec::new(), zero_ps: None }
    }

    /// Azure's CSV as of 2023: UTC without a zone, seven digits after the point. `epoch_ns` is the trace's zero.
    ///
    /// # Errors
    /// When the header can't be written.
    pub fn azure_csv(mut out: W, epoch_ns: i64) -> io::Result<Self> {
        out.write_all(b"TIMESTAMP,ContextTokens,GeneratedTokens\n")?;
        Ok(Self { out, kind: Kind::Azure { epoch_ns }, text: Vec::new(), zero_ps: None })
    }

    /// Writes a request. `prefix`: the names of its prompt's blocks, which only Mooncake's format has a place for.
    ///
    /// # Errors
    /// When it can't be written, or its time has no form in the format.
    pub fn write(&mut self, arrival: &Arrival, prefix: &[u64]) -> io::Result<()> {
        self.text.clear();
        match self.kind {
            Kind::Mooncake => self.mooncake(arrival, prefix)?,
            Kind::Azure { epoch_ns } => self.azure(arrival, epoch_ns)?,
        }
        self.out.write_all(&self.text)
    }

    fn mooncake(&mut self, arrival: &Arrival, prefix: &[u64]) -> io::Result<()> {
        let zero_ps = *self.zero_ps.get_or_insert(arrival.at_ps);
        let ns = (arrival.at_ps - zero_ps) / PS_PER_NS;
        let text = &mut self.text;
        write!(text, "{{\"timestamp\": {}", ns / 1_000_000)?;
        if !ns.is_multiple_of(1_000_000) {
            let fraction = format!("{:06}", ns % 1_000_000);
            write!(text, ".{}", fraction.trim_end_matches('0'))?;
        }
        let Arrival { input_tokens, output_tokens, .. } = arrival;
        write!(text, ", \"input_length\": {input_tokens}, \"output_length\": {output_tokens}")?;
        if !prefix.is_empty() {
            text.extend_from_slice(b", \"hash_ids\": [");
            for (place, id) in prefix.iter().enumerate() {
                write!(text, "{}{id}", if place == 0 { "" } else { ", " })?;
            }
            text.push(b']');
        }
        text.extend_from_slice(b"}\n");
        Ok(())
    }

    fn azure(&mut self, arrival: &Arrival, epoch_ns: i64) -> io::Result<()> {
        let beyond = || io::Error::new(io::ErrorKind::InvalidInput, "a time is beyond the calendar");
        let since_ns = i64::try_from(arrival.at_ps / PS_PER_NS).map_err(|_| beyond())?;
        let time = epoch_ns.checked_add(since_ns).ok_or_else(beyond)?;
        let time = jiff::Timestamp::from_nanosecond(time.into()).map_err(|_| beyond())?;
        // The years of the format have four digits.
        if !(0..=9_999).contains(&time.to_zoned(jiff::tz::TimeZone::UTC).year()) {
            return Err(beyond());
        }
        let Arrival { input_tokens, output_tokens, .. } = arrival;
        let stamp = time.strftime("%Y-%m-%d %H:%M:%S");
        let ticks = time.as_nanosecond().rem_euclid(1_000_000_000) / 100;
        writeln!(self.text, "{stamp}.{ticks:07},{input_tokens},{output_tokens}")
    }

    /// Hands the file back, all of it written.
    ///
    /// # Errors
    /// When the rest can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
