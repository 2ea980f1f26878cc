internal import Glibc
internal import Model
internal import Processes
internal import Synchronization
internal import Telemetry

/// Whether KVM can really run a guest. `/dev/kvm` alone does not tell: inside some machines it can be opened, and runs
/// a guest until that switches to 64-bit mode, where it hangs.
public enum KVMProbe {
    public enum Outcome: Sendable, Hashable {
        case works
        /// Why not, for a person.
        case unusable(reason: String)
    }

    /// Boots a guest of a few instructions and remembers the outcome for the process. 50 ms where KVM works; never
    /// more than 6 s.
    /// - Parameter architecture: of the host; elsewhere than on x86_64 only `/dev/kvm` itself is looked at.
    public static func result(architecture: String = "x86_64") async -> Outcome {
        let task = shared.withLock { shared in
            if let shared { return shared }
            let task = Task { await probe(architecture: architecture) }
            shared = task
            return task
        }
        return await task.value
    }

    private static let shared = Mutex<Task<Outcome, Never>?>(nil)

    private static func probe(architecture: String) async -> Outcome {
        let device = open("/dev/kvm", O_RDWR | O_CLOEXEC)
        guard device >= 0 else { return .unusable(reason: "/dev/kvm: \(Files.systemText(errno))") }
        close(device)
        guard architecture == "x86_64" else { return .works }
        return await boot(accelerator: "kvm", timeout: .seconds(3))
    }

    /// Boots the guest under an accelerator of QEMU.
    static func boot(accelerator: String, timeout: Duration) async -> Outcome {
        guard let program = find(program: "qemu-system-x86_64") ?? find(program: "qemu-kvm") else {
            return .unusable(reason: "qemu-system-x86_64 is not installed")
        }
        let (outcomes, sink) = AsyncStream<Outcome>.makeStream(bufferingPolicy: .bufferingOldest(1))
        // Not a child task: a QEMU that hangs in the kernel cannot be killed, and must not keep us.
        let guest = Task { sink.yield(await runGuest(program, accelerator, timeout)) }
        let watchdog = Task {
            // Ends early only when it has lost the race.
            do { try await AlarmClock().sleep(for: timeout + .seconds(3)) } catch { return }
            sink.yield(.unusable(reason: "a test guest hung under \(accelerator) and could not be killed"))
        }
        defer { watchdog.cancel() }
        for await outcome in outcomes { return outcome }
        guest.cancel()
        return .unusable(reason: "the test was cancelled")
    }

    private static func runGuest(_ program: String, _ accelerator: String, _ timeout: Duration) async -> Outcome {
        var template = Array("/tmp/apus-kvm-probe.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            return .unusable(reason: "no temporary folder for a test guest: \(Files.systemText(errno))")
        }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let firmware = folder + "/firmware"
        defer {
            unlink(firmware)
            rmdir(folder)
        }
        do {
            try Files.write(ProbeFirmware.image, to: firmware, mode: 0o600)
            let result = try await run(
                Command(
                    program,
                    [
                        "-accel", accelerator, "-machine", "pc", "-nodefaults", "-no-user-config", "-display", "none",
                        "-m", "16", "-bios", firmware, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
                    ], timeout: timeout))
            guard result.status == ProbeFirmware.exitStatus else {
                let said = result.errorText.split(whereSeparator: \.isNewline).last.map { ": \($0.prefix(300))" } ?? ""
                return .unusable(reason: "a test guest failed under \(accelerator) with status \(result.status)\(said)")
            }
            return .works
        } catch let error as ProcessError {
            if case .timedOut = error {
                return .unusable(reason: "a test guest hung under \(accelerator) for \(timeout.inSeconds) s")
            }
            return .unusable(reason: "\(error)")
        } catch {
            return .unusable(reason: "\(error)")
        }
    }
}

/// A firmware that switches the processor to 64-bit mode with paging, as every kernel does, and then ends QEMU.
enum ProbeFirmware {
    /// `isa-debug-exit` makes 2 × 16 + 1 of the byte that is written.
    static let exitStatus: Int32 = 33

    /// 64 KiB which end at the reset vector, 16 bytes below 4 GiB; also visible below 1 MiB.
    static let image: [UInt8] = {
        var image = [UInt8](repeating: 0xF4, count: 65_536)
        image.replaceSubrange(0..<code.count, with: code)
        // jmp far F000:0000
        image.replaceSubrange(0xFFF0..<0xFFF5, with: [0xEA, 0x00, 0x00, 0x00, 0xF0])
        return image
    }()

    private static let code: [UInt8] = [
        // 16 bit: cli; ax, ds, es = 0; clear 12 KiB at 0x1000 for page tables
        0xFA, 0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0xBF, 0x00, 0x10, 0xB9, 0x00, 0x0C, 0xFC, 0x66, 0xF3, 0xAB,
        // the first 2 MiB mapped to themselves: [0x1000] = 0x2003; [0x2000] = 0x3003; [0x3000] = 0x83
        0x66, 0xC7, 0x06, 0x00, 0x10, 0x03, 0x20, 0x00, 0x00,
        0x66, 0xC7, 0x06, 0x00, 0x20, 0x03, 0x30, 0x00, 0x00,
        0x66, 0xC7, 0x06, 0x00, 0x30, 0x83, 0x00, 0x00, 0x00,
        // lgdt cs:[0x90]
        0x2E, 0x66, 0x0F, 0x01, 0x16, 0x90, 0x00,
        // cr4 |= PAE; cr3 = 0x1000
        0x0F, 0x20, 0xE0, 0x66, 0x83, 0xC8, 0x20, 0x0F, 0x22, 0xE0,
        0x66, 0xB8, 0x00, 0x10, 0x00, 0x00, 0x0F, 0x22, 0xD8,
        // EFER |= LME
        0x66, 0xB9, 0x80, 0x00, 0x00, 0xC0, 0x0F, 0x32, 0x66, 0x0D, 0x00, 0x01, 0x00, 0x00, 0x0F, 0x30,
        // cr0 |= PG | PE; jmp far 0008:000F006A
        0x0F, 0x20, 0xC0, 0x66, 0x0D, 0x01, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0,
        0x66, 0xEA, 0x6A, 0x00, 0x0F, 0x00, 0x08, 0x00,
        // 64 bit, at 0x6A: count 1,048,576 down; out 0xF4, 0x10; hlt
        0xB9, 0x00, 0x00, 0x10, 0x00, 0xE2, 0xFE, 0x66, 0xBA, 0xF4, 0x00, 0xB0, 0x10, 0xEE, 0xF4, 0xEB, 0xFD,
        // padding to 0x80
        0x90, 0x90, 0x90, 0x90, 0x90,
        // 0x80: GDT: null, 64-bit code
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9A, 0x20, 0x00,
        // 0x90: its limit and address
        0x0F, 0x00, 0x80, 0x00, 0x0F, 0x00,
    ]
}
