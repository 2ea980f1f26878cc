internal import Synchronization

/// A request body on its way from the event thread to the handler. At most `capacity` bytes (and one piece) wait here;
/// beyond that the connection is suspended, and TCP holds the client back.
final class UploadStream: ByteSource {
    private static let capacity = 1_048_576
    /// A reader that waits is woken for so many bytes, or for the last ones: each time costs two changes of threads.
    private static let worthwhile = 131_072

    private struct State {
        var buffer: [UInt8] = []
        var hasEnded = false
        var error: RequestBodyError?
        var reader: CheckedContinuation<[UInt8]?, any Error>?
    }

    private let state = Mutex(State())
    private let exchange: Exchange

    init(_ exchange: Exchange) { self.exchange = exchange }

    func next() async throws -> [UInt8]? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                state.withLock { state in
                    if let error = state.error {
                        continuation.resume(throwing: error)
                    } else if !state.buffer.isEmpty {
                        continuation.resume(returning: state.buffer)
                        state.buffer = []
                    } else if state.hasEnded {
                        continuation.resume(returning: nil)
                    } else if Task.isCancelled || state.reader != nil {
                        continuation.resume(throwing: CancellationError())
                    } else {
                        state.reader = continuation
                    }
                }
                exchange.uploadIsWanted()
            }
        } onCancel: {
            let reader = state.withLock { $0.reader.take() }
            reader?.resume(throwing: CancellationError())
        }
    }

    /// Takes a piece over; false when there is no room, and then nothing was taken.
    func push(_ bytes: UnsafeRawBufferPointer) -> Bool {
        state.withLock { state in
            guard state.error == nil else { return true }
            guard state.buffer.count < Self.capacity else { return false }
            state.buffer.append(contentsOf: bytes)
            if state.buffer.count >= Self.worthwhile, let reader = state.reader.take() {
                reader.resume(returning: state.buffer)
                state.buffer = []
            }
            return true
        }
    }

    /// The body is complete.
    func end() {
        state.withLock { state in
            state.hasEnded = true
            guard let reader = state.reader.take() else { return }
            reader.resume(returning: state.buffer.isEmpty ? nil : state.buffer)
            state.buffer = []
        }
    }

    /// The rest will not come. What is buffered is dropped; without effect when the body is complete.
    func fail(_ error: RequestBodyError) {
        state.withLock { state in
            guard !state.hasEnded, state.error == nil else { return }
            state.error = error
            state.buffer = []
            state.reader.take()?.resume(throwing: error)
        }
    }
}
