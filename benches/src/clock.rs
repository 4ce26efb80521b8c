//! CPU time of the calling thread: what the claims are about ("on one core"), and steadier than the wall clock on a
//! machine shared with others.

use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// User and system time this thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is negative for a CPU clock.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs `body` and returns what it returns with the CPU seconds it took.
pub fn cpu_seconds<T>(body: impl FnOnce() -> T) -> (T, f64) {
    let before = thread_cpu();
    let value = body();
    (value, (thread_cpu() - before).as_secs_f64())
}

/// The same of all this process's threads: for what works in parallel.
pub fn process_cpu_seconds<T>(body: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let before = now();
    let value = body();
    (value, (now() - before).as_secs_f64())
}

/// Smallest, median and largest of several measurements.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The smallest.
    pub least: f64,
    /// The median; of an even number, the larger of the two in the middle.
    pub median: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of at least one value.
    ///
    /// # Panics
    /// Of none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { least: values[0], median: values[values.len() / 2], most: values[values.len() - 1] }
    }
}

/// Where and when figures were measured, in a line: they mean little without it.
#[must_use]
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!("machine: {}, {cores} cores, load average {load}", model.trim_start_matches([':', ' ', '\t']))
}

/// Criterion's measurement by [`thread_cpu`].
pub struct CpuTime(WallTime);

impl std::fmt::Debug for CpuTime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CpuTime")
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        thread_cpu()
    }

    fn end(&self, start: Duration) -> Duration {
        thread_cpu().saturating_sub(start)
    }

    fn add(&self, first: &Duration, second: &Duration) -> Duration {
        *first + *second
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    #[allow(clippy::cast_precision_loss)] // nanoseconds of a benchmark
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

/// Criterion with that measurement and few samples: each is a whole simulation.
#[must_use]
pub fn criterion() -> criterion::Criterion<CpuTime> {
    criterion::Criterion::default().with_measurement(CpuTime(WallTime)).sample_size(20).configure_from_args()
}

/// Requests a run, as criterion's throughput.
#[must_use]
pub fn requests(count: u64) -> Throughput {
    Throughput::Elements(count)
}
