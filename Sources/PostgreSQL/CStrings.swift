#if PostgreSQL
    internal import Glibc

    /// Calls `body` with copies of texts as C takes them: an array of pointers that ends with a null pointer.
    func withCStrings<T>(_ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> T) -> T {
        let copies = texts.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        let pointers = copies.map { copy -> UnsafePointer<CChar>? in copy.map { UnsafePointer($0) } } + [nil]
        return pointers.withUnsafeBufferPointer { body($0.baseAddress) }
    }
#endif
