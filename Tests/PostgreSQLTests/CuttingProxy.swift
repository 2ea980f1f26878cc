#if PostgreSQL
    import Foundation
    import Glibc
    import Synchronization

    /// Stands between a client and a server, and can cut a connection between the server's COMMIT and its word of it.
    final class CuttingProxy: Sendable {
        private struct State {
            var isArmed = false
            var cuts = 0
        }

        let url: String
        private let folder: String
        private let listener: Int32
        private let state = Mutex(State())

        /// - Parameter url: of a server on a socket in a folder: `…?host=/FOLDER`.
        init(_ url: String) throws {
            let parts = url.components(separatedBy: "host=")
            folder = "/tmp/apus-proxy-\(UInt32.random(in: 0...UInt32.max))"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
            self.url = parts[0] + "host=" + folder
            let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            guard Self.with(folder, { bind(listener, $0, $1) }) == 0, listen(listener, 16) == 0 else {
                throw POSIXError(.EIO)
            }
            self.listener = listener
            let (server, state) = (parts[1], Weak(self))
            Thread.detachNewThread {
                while true {
                    let client = accept(listener, nil, nil)
                    guard client >= 0 else { return }
                    let upstream = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
                    guard Self.with(server, { connect(upstream, $0, $1) }) == 0 else {
                        close(client)
                        close(upstream)
                        continue
                    }
                    let cut = SharedFlag()
                    Thread.detachNewThread {
                        Self.copy(client, upstream) { bytes in
                            if state.proxy?.takes(bytes) == true { cut.isCutting.withLock { $0 = true } }
                            return true
                        }
                    }
                    Thread.detachNewThread {
                        // The answer to the COMMIT is there: it has been made, and nobody is to hear of it.
                        Self.copy(upstream, client) { _ in !cut.isCutting.withLock { $0 } }
                    }
                }
            }
        }

        deinit {
            shutdown(listener, Int32(SHUT_RDWR))
            close(listener)
            try? FileManager.default.removeItem(atPath: folder)
        }

        var cuts: Int { state.withLock { $0.cuts } }

        func cutNextCommit() { state.withLock { $0.isArmed = true } }

        private func takes(_ bytes: ArraySlice<UInt8>) -> Bool {
            guard Data(bytes).range(of: Data("COMMIT".utf8)) != nil else { return false }
            return state.withLock { state in
                defer { state.isArmed = false }
                if state.isArmed { state.cuts += 1 }
                return state.isArmed
            }
        }

        private static func copy(_ from: Int32, _ to: Int32, _ isPassed: (ArraySlice<UInt8>) -> Bool) {
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = read(from, &buffer, buffer.count)
                guard count > 0, isPassed(buffer[..<count]) else { break }
                var sent = 0
                while sent < count {
                    let more = buffer[sent..<count].withUnsafeBytes {
                        send(to, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                    }
                    guard more > 0 else { break }
                    sent += more
                }
            }
            shutdown(from, Int32(SHUT_RDWR))
            shutdown(to, Int32(SHUT_RDWR))
        }

        private static func with(
            _ folder: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
        ) -> Int32 {
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let path = Array("\(folder)/.s.PGSQL.5432".utf8CString)
            withUnsafeMutableBytes(of: &address.sun_path) { target in
                path.withUnsafeBytes { target.copyMemory(from: $0) }
            }
            return withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        }
    }

    /// A proxy that lives no longer for the threads that serve it.
    private final class Weak: Sendable {
        private let box: Mutex<WeakBox>

        init(_ proxy: CuttingProxy) { box = Mutex(WeakBox(proxy: proxy)) }

        var proxy: CuttingProxy? { box.withLock { $0.proxy } }

        private struct WeakBox { weak var proxy: CuttingProxy? }
    }

    /// Shared by the two threads of a connection.
    private final class SharedFlag: Sendable {
        let isCutting = Mutex(false)
    }
#endif
