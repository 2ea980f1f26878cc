internal import CMicroHTTPD
internal import Synchronization
internal import Telemetry

/// A response body on its way from a source to the event thread. The event thread takes what is there and suspends the
/// connection when there is nothing; the source is asked for more when little is left.
final class DownloadStream: Sendable {
    private static let capacity = 262_144

    private struct State {
        var buffer: [UInt8] = []
        var offset = 0
        var hasEnded = false
        var hasFailed = false
        var isReaderWaiting = false
        var writer: CheckedContinuation<Bool, Never>?
        var task: Task<Void, Never>?

        var available: Int { buffer.count - offset }
    }

    private let state = Mutex(State())
    private let exchange: Exchange
    private let source: any ByteSource
    private let length: Int64?

    init(_ exchange: Exchange, _ source: any ByteSource, length: Int64?) {
        (self.exchange, self.source, self.length) = (exchange, source, length)
    }

    /// Copies what is there into the library's buffer; called on the event thread.
    func read(into target: UnsafeMutableRawBufferPointer, at position: UInt64) -> Int {
        state.withLock { state in
            if state.available > 0 {
                let count = min(state.available, target.count)
                target.copyBytes(from: state.buffer[state.offset..<(state.offset + count)])
                state.offset += count
                if state.available == 0 {
                    state.buffer.removeAll(keepingCapacity: true)
                    state.offset = 0
                    state.writer.take()?.resume(returning: true)
                }
                return count
            }
            // Less than what was announced is an error, also when the source believes that it is at its end.
            if state.hasFailed || (state.hasEnded && length.map { UInt64($0) != position } ?? false) {
                return apus_MHD_END_WITH_ERROR
            }
            if state.hasEnded { return apus_MHD_END_OF_STREAM }
            guard exchange.suspendForDownload() else { return apus_MHD_END_WITH_ERROR }
            state.isReaderWaiting = true
            if state.task == nil {
                // Only now: for HEAD nobody reads, and then the source is never asked.
                state.task = Task { [self] in await pump() }
            }
            return 0
        }
    }

    private func pump() async {
        do {
            while let piece = try await source.next() {
                guard await offer(piece) else { return }
            }
            finish(failed: false)
        } catch {
            if !(error is CancellationError) {
                Logger("http").warning("response body broke off", ["error": LoggedError(error)])
            }
            finish(failed: true)
        }
    }

    private func offer(_ piece: [UInt8]) async -> Bool {
        await withCheckedContinuation { continuation in
            state.withLock { state in
                guard !state.hasFailed else { return continuation.resume(returning: false) }
                state.buffer.append(contentsOf: piece)
                wakeReader(&state)
                if state.available >= Self.capacity {
                    state.writer = continuation
                } else {
                    continuation.resume(returning: true)
                }
            }
        }
    }

    private func finish(failed: Bool) {
        state.withLock { state in
            if failed { state.hasFailed = true } else { state.hasEnded = true }
            wakeReader(&state)
        }
    }

    private func wakeReader(_ state: inout State) {
        guard state.isReaderWaiting else { return }
        state.isReaderWaiting = false
        exchange.resumeForDownload()
    }

    /// Nobody will read any more.
    func cancel() {
        state.withLock { state in
            state.hasFailed = true
            state.task?.cancel()
            state.writer.take()?.resume(returning: false)
            wakeReader(&state)
        }
    }
}

func downloadReader(
    _ context: UnsafeMutableRawPointer?, _ position: UInt64, _ buffer: UnsafeMutablePointer<CChar>?, _ limit: Int
) -> Int {
    guard let context, let buffer else { return apus_MHD_END_WITH_ERROR }
    let stream = Unmanaged<DownloadStream>.fromOpaque(context).takeUnretainedValue()
    return stream.read(into: UnsafeMutableRawBufferPointer(start: buffer, count: limit), at: position)
}

func downloadRelease(_ context: UnsafeMutableRawPointer?) {
    guard let context else { return }
    Unmanaged<DownloadStream>.fromOpaque(context).takeRetainedValue().cancel()
}
