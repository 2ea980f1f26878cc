internal import Synchronization

/// A request body on its way from its source to the client's thread.
final class UploadFeed: Sendable {
    private static let capacity = 262_144

    enum Portion {
        /// 0 at the end.
        case bytes(Int)
        case nothingYet
        case failed(String)
    }

    private struct State {
        var buffer: [UInt8] = []
        var offset = 0
        var hasEnded = false
        var isClosed = false
        var failure: String?
        var writer: CheckedContinuation<Bool, Never>?

        var available: Int { buffer.count - offset }
    }

    private let source: any ByteSource
    private let state = Mutex(State())

    init(_ source: any ByteSource) { self.source = source }

    /// Brings the source's pieces, until it ends or nobody takes them any more. Calls `wake` when there is something.
    func pump(_ wake: @Sendable () -> Void) async {
        do {
            while let piece = try await source.next() {
                let isTaken = await withCheckedContinuation { continuation in
                    state.withLock { state in
                        guard !state.isClosed else { return continuation.resume(returning: false) }
                        state.buffer.append(contentsOf: piece)
                        if state.available >= Self.capacity {
                            state.writer = continuation
                        } else {
                            continuation.resume(returning: true)
                        }
                    }
                    wake()
                }
                guard isTaken else { return }
            }
            state.withLock { $0.hasEnded = true }
        } catch {
            state.withLock { $0.failure = "\(error)" }
        }
        wake()
    }

    func read(into target: UnsafeMutableRawBufferPointer) -> Portion {
        state.withLock { state in
            let count = min(state.available, target.count)
            if count > 0 {
                target.copyBytes(from: state.buffer[state.offset..<(state.offset + count)])
                state.offset += count
                if state.available == 0 {
                    state.buffer.removeAll(keepingCapacity: true)
                    state.offset = 0
                    state.writer.take()?.resume(returning: true)
                }
                return .bytes(count)
            }
            if let failure = state.failure { return .failed(failure) }
            return state.hasEnded || state.isClosed ? .bytes(0) : .nothingYet
        }
    }

    /// Nobody takes any more.
    func close() {
        state.withLock { state in
            state.isClosed = true
            state.writer.take()?.resume(returning: false)
        }
    }
}
