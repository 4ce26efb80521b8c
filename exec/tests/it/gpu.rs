//! NVML, by a library that the test builds: its GPUs are a folder. A real one is tried where there is one.

// A test that is skipped says why.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use slackwater_exec::gpu::{Gpus, NvmlGpus};
use slackwater_exec::procfs;

fn fake(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_nvml.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(format!("-DFOLDER=\"{}\"", folder.display()))
        .arg(source)
        .output();
    match built {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(library)
        }
        Err(error) => {
            assert!(std::env::var_os("SLACKWATER_REQUIRE_REAL").is_none(), "no C compiler (cc): {error}");
            eprintln!("skipped: no C compiler (cc): {error}");
            None
        }
    }
}

#[test]
fn memory_its_holders_and_troubles_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let Some(library) = fake(folder.path()) else { return };
    fs::create_dir(at("held")).unwrap();
    fs::write(at("gpus"), "0 81920 Fake-GPU\n1 81920 Fake-GPU\n").unwrap();
    let pid = std::process::id();
    let started = procfs::stat(pid).unwrap().started;
    fs::write(at("held/one"), format!("{pid} {started} 1 70000 0\n")).unwrap();
    fs::write(at("held/dead"), "4000000 1 0 70000 0\n").unwrap();
    let gpus = NvmlGpus::open(Some(&library)).unwrap();
    assert_eq!((gpus.free_mib(0), gpus.free_mib(1)), (Ok(81_920), Ok(11_920)));
    assert_eq!((gpus.holders(0), gpus.holders(1)), (vec![], vec![pid]));
    fs::write(at("gpus"), "0 81920 Fake-GPU\n1 81559 NVIDIA H100 80GB HBM3\n").unwrap();
    let devices = gpus.devices();
    assert_eq!((devices.len(), devices[0].name.as_str()), (2, "Fake-GPU"));
    assert_eq!(
        (devices[1].index, devices[1].name.as_str(), devices[1].memory_mib),
        (1, "NVIDIA H100 80GB HBM3", 81_559)
    );
    assert_eq!(devices[1].driver, "999.1");
    fs::write(at("gpus"), "0 81920 Fake-GPU\n1 81920 Fake-GPU\n").unwrap();
    assert!(gpus.free_mib(2).unwrap_err().starts_with("GPU 2: its memory can't be read"));
    assert_eq!(gpus.troubles(0), Vec::<String>::new(), "what the driver does not know is no trouble");
    fs::write(at("ecc"), "3").unwrap();
    // Hardware thermal slowdown.
    fs::write(at("throttle"), "64").unwrap();
    let troubles = gpus.troubles(0);
    assert!(troubles[0].contains("3 uncorrected memory errors"), "{troubles:?}");
    assert!(troubles[1].contains("HW_THERMAL_SLOWDOWN"), "{troubles:?}");
}

#[test]
fn without_the_library_it_is_said() {
    let error = NvmlGpus::open(Some(Path::new("/no/such/libnvidia-ml.so"))).unwrap_err();
    assert!(error.contains("/no/such/libnvidia-ml.so"), "{error}");
}

#[test]
fn a_real_gpu_is_read_where_there_is_one() {
    match NvmlGpus::open(None) {
        Ok(gpus) => {
            let free = gpus.free_mib(0).unwrap();
            assert!(free > 0);
            eprintln!(
                "GPU 0: {free} MiB free, held by {:?}, troubles {:?}",
                gpus.holders(0),
                gpus.troubles(0)
            );
        }
        Err(why) => eprintln!("skipped: {why}"),
    }
}
