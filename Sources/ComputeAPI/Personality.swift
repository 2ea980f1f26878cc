internal import Crypto
internal import Model

/// The files that a user injects (`personality`, up to 2.56): they reach the guest by its config drive.
enum Personality {
    /// Takes the member out of `fields`. Throws 400 for what is no file; how many and how large they may be is the
    /// quota's to say.
    static func read(_ fields: inout BodyFields, _ call: ComputeCall) throws(APIError) -> [InjectedFile] {
        guard !call.isAtLeast(57), let list = try fields.list("personality") else { return [] }
        var files: [InjectedFile] = []
        for value in list {
            var entry = try BodyFields(value, as: "personality")
            let path = try entry.requiredText("path", length: 1...1_024)
            let contents = (try entry.text("contents", length: 0...65_535) ?? "").filter { !$0.isWhitespace }
            try entry.finish()
            guard path.hasPrefix("/"), !path.split(separator: "/").contains("..") else {
                throw .badRequest("Invalid input for field/attribute personality: '\(path)' is no absolute path.")
            }
            guard Base64.decode(contents) != nil else {
                throw .badRequest("Invalid input for field/attribute personality: contents of \(path) must be base64.")
            }
            files.append(InjectedFile(path: path, contents: contents))
        }
        return files
    }

    /// Throws unless the files, which `read` has taken, are within the limits.
    static func require(_ files: [InjectedFile], _ limits: QuotaLimits) throws(QuotaExceeded) {
        try limits.require(.injectedFiles, files.count)
        for file in files {
            try limits.require(.injectedFilePathBytes, file.path.utf8.count)
            try limits.require(.injectedFileContentBytes, Base64.decode(file.contents)?.count ?? 0)
        }
    }
}
