internal import CMicroHTTPD
internal import CSystem
internal import Glibc
internal import Model
internal import Telemetry

/// An answer in the library's form; the last reference destroys it.
// Sendable: the library counts references under its own lock; the pointer itself never changes.
final class PreparedResponse: @unchecked Sendable {
    let status: Int
    let download: DownloadStream?
    private let pointer: OpaquePointer

    private init(status: Int, download: DownloadStream?, owning pointer: OpaquePointer) {
        (self.status, self.download, self.pointer) = (status, download, pointer)
    }

    deinit { MHD_destroy_response(pointer) }

    /// An answer whose body is in memory; `nil` when the memory is not there.
    static func make(_ response: HTTPResponse) -> PreparedResponse? {
        make(response.bytes, response)
    }

    /// Any answer. Opens the file of a file body on `files`; what cannot be sent becomes a 500.
    static func make(_ response: HTTPResponse, _ exchange: Exchange, files: BlockingExecutor) async -> PreparedResponse?
    {
        if let name = response.headers.firstUnsendable {
            Logger("http").error("a response header cannot be sent", ["header": name])
            return make(Router.plain(500, "internal error"))
        }
        switch response.body {
        case .empty, .bytes:
            return make(response)
        case .stream(let length, let source):
            let download = DownloadStream(exchange, source, length: length)
            let context = Unmanaged.passRetained(download)
            guard
                let pointer = apus_mhd_response_stream(
                    length ?? -1, downloadReader, context.toOpaque(), downloadRelease)
            else {
                context.release()
                return nil
            }
            return PreparedResponse(status: response.status, download: download, owning: pointer)
                .adding(response.headers)
        case .file(let path, let offset, let length):
            do {
                let file = try await files.run { () throws in try openForReading(path, from: offset, length: length) }
                guard
                    let pointer = MHD_create_response_from_fd_at_offset64(UInt64(length), file, UInt64(offset))
                else {
                    close(file)
                    return nil
                }
                return PreparedResponse(status: response.status, download: nil, owning: pointer)
                    .adding(response.headers)
            } catch {
                Logger("http").error("a file cannot be sent", ["path": path, "error": LoggedError(error)])
                return make(Router.plain(500, "internal error"))
            }
        }
    }

    private static func make(_ bytes: [UInt8], _ response: HTTPResponse) -> PreparedResponse? {
        bytes.withUnsafeBytes { apus_mhd_response_copying($0.baseAddress, $0.count) }.map {
            PreparedResponse(status: response.status, download: nil, owning: $0).adding(response.headers)
        }
    }

    private func adding(_ headers: HTTPFields) -> PreparedResponse {
        for (name, value) in headers {
            switch name.lowercased() {
            // The library counts the bytes itself.
            case "content-length", "transfer-encoding": continue
            default: MHD_add_response_header(pointer, name, value)
            }
        }
        return self
    }

    /// Hands the answer to the library; only on the connection's event thread. False when it does not take it.
    func queue(on connection: OpaquePointer, closing: Bool) -> Bool {
        if closing { MHD_add_response_header(pointer, "Connection", "close") }
        return MHD_queue_response(connection, UInt32(clamping: status), pointer) == apus_MHD_YES
    }
}

private struct FileError: Error, CustomStringConvertible {
    let description: String
}

private func openForReading(_ path: String, from offset: Int64, length: Int64) throws -> Int32 {
    let file = apus_open(path, O_RDONLY | O_NOCTTY, 0)
    guard file >= 0 else { throw FileError(description: String(cString: strerror(errno))) }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, offset >= 0, length >= 0,
        offset <= Int64(status.st_size), Int64(status.st_size) - offset >= length
    else {
        close(file)
        throw FileError(description: "no regular file with \(length) bytes from \(offset) on")
    }
    return file
}
