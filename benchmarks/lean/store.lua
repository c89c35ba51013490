-- The requests of S3 that the tools send, with as little work for each as can be: signatures are
-- not checked. Each version of an object is a file of its own, named by a number; what is known of
-- it is in a dictionary that the two processes of nginx share. An ETag is the MD5 of what arrived,
-- as on AWS, and a Content-MD5 that is wrong is refused.
local ffi = require "ffi"
local bit = require "bit"
ffi.cdef [[
typedef struct { unsigned char state[256]; } lean_md5;
int MD5_Init(lean_md5 *c);
int MD5_Update(lean_md5 *c, const void *data, size_t len);
int MD5_Final(unsigned char *md, lean_md5 *c);
int open(const char *path, int flags, int mode);
ssize_t pwrite(int fd, const void *data, size_t len, long offset);
ssize_t copy_file_range(int from, long *from_at, int to, long *to_at, size_t len, unsigned flags);
int close(int fd);
int rename(const char *from, const char *to);
int link(const char *from, const char *to);
int unlink(const char *path);
]]
local C, ngx = ffi.C, ngx
local objects, uploads = ngx.shared.objects, ngx.shared.uploads
local O_RDONLY, O_WRONLY, O_CREAT = 0, 1, 64
local PIECE, SMALL = 256 * 1024, 1024 * 1024

local store = { folder = "", delay = 0 }

-- Texts ------------------------------------------------------------------------------------------

local function decoded(text)
    if not text:find("%", 1, true) then return text end
    return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function encoded(text)
    return (text:gsub("[^%w%-._~/]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function xml(text)
    return (text:gsub("[&<>\r]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ["\r"] = "&#13;" }))
end

local function unxml(text)
    local names = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'" }
    text = text:gsub("&#(%d+);", function(n) return string.char(tonumber(n)) end)
    return (text:gsub("&(%a+);", names))
end

local function hex_of(bytes)
    return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function unquoted(tag) return (tag:gsub('^W?/?"?', ""):gsub('"$', "")) end

-- Answers ----------------------------------------------------------------------------------------

local function answer(status, body)
    ngx.status = status
    if status ~= 204 then ngx.header["Content-Length"] = #body end
    if body ~= "" then
        ngx.header["Content-Type"] = "application/xml"
        ngx.print(body)
    end
    return ngx.exit(ngx.OK)
end

local function refuse(status, code)
    ngx.status = status
    local body = "<Error><Code>" .. code .. "</Code><Message>" .. code .. "</Message></Error>"
    ngx.header["Content-Type"] = "application/xml"
    ngx.header["Content-Length"] = #body
    if ngx.req.get_method() ~= "HEAD" then ngx.print(body) end
    return ngx.exit(ngx.OK)
end

-- Content ----------------------------------------------------------------------------------------

local digest, sum = ffi.new "lean_md5[1]", ffi.new "unsigned char[16]"

local function md5_of(text)
    C.MD5_Init(digest[0]); C.MD5_Update(digest[0], text, #text); C.MD5_Final(sum, digest[0])
    return ffi.string(sum, 16)
end

local function fresh() return ("%d"):format(objects:incr("#files", 1, 0)) end

local function written(file, text, at)
    if C.pwrite(file, text, #text, at) ~= #text then error("the store is full") end
end

-- Write the request's body into a file from an offset on; return its MD5, and its size.
local function receive(path, at)
    local length = tonumber(ngx.var.content_length) or 0
    local file = C.open(path, bit.bor(O_WRONLY, O_CREAT), 420)
    if file < 0 then error("cannot create " .. path) end
    local ok, sum_or_error = pcall(function()
        if length == 0 then return md5_of("") end
        if length <= SMALL then
            ngx.req.read_body()
            local body = ngx.req.get_body_data()
            written(file, body, at)
            return md5_of(body)
        end
        local socket = assert(ngx.req.socket())
        local own, got = ffi.new "lean_md5[1]", 0
        C.MD5_Init(own[0])
        while got < length do
            local piece = assert(socket:receiveany(math.min(PIECE, length - got)))
            written(file, piece, at + got)
            C.MD5_Update(own[0], piece, #piece)
            got = got + #piece
        end
        C.MD5_Final(sum, own[0])
        return ffi.string(sum, 16)
    end)
    C.close(file)
    if not ok then error(sum_or_error, 0) end
    return sum_or_error, length
end

local function is_damaged(md5, headers)
    local expected = headers["content-md5"]
    return expected and ngx.decode_base64(expected) ~= md5
end

-- What is known of objects: number of the file, ETag, size, time, then headers --------------------

local KEPT = { "content-type", "cache-control", "content-encoding", "content-disposition",
    "content-language", "expires" }

local function told(headers)
    local lines = {}
    for _, name in ipairs(KEPT) do
        if headers[name] then lines[#lines + 1] = name .. ":" .. headers[name] end
    end
    for name, value in pairs(headers) do
        if name:sub(1, 11) == "x-amz-meta-" then lines[#lines + 1] = name .. ":" .. value end
    end
    return table.concat(lines, "\n")
end

local function look(key)
    local record = objects:get("/" .. key)
    if not record then return nil end
    local file, etag, size, time, rest = record:match("^(%d+) (%S+) (%d+) (%d+)\n(.*)$")
    return { file = file, etag = etag, size = tonumber(size), time = tonumber(time), told = rest }
end

local function keep(key, file, etag, size, lines)
    local before = look(key)
    local record = ("%s %s %d %d\n%s"):format(file, etag, size, ngx.time(), lines)
    assert(objects:set("/" .. key, record))
    if before then C.unlink(store.folder .. before.file) else objects:incr("#names", 1, 0) end
end

local function drop(key)
    local before = look(key)
    if not before then return end
    objects:delete("/" .. key)
    objects:incr("#names", 1, 0)
    C.unlink(store.folder .. before.file)
end

-- Return why the object that is there now must stay, or nothing.
local function unmet(key, headers)
    if headers["if-none-match"] == "*" and look(key) then return 412, "PreconditionFailed" end
    if headers["if-match"] then
        local found = look(key)
        if not found then return 404, "NoSuchKey" end
        if headers["if-match"] ~= "*" and unquoted(headers["if-match"]) ~= found.etag then
            return 412, "PreconditionFailed"
        end
    end
end

-- Requests for one object ------------------------------------------------------------------------

local function get(key, headers)
    local found = look(key)
    if not found then return refuse(404, "NoSuchKey") end
    local match = headers["if-match"]
    if match and unquoted(match) ~= found.etag then return refuse(412, "PreconditionFailed") end
    local header = ngx.header
    header["ETag"] = '"' .. found.etag .. '"'
    header["Last-Modified"] = ngx.http_time(found.time)
    header["Content-Type"] = "binary/octet-stream"
    for name, value in found.told:gmatch("([^:\n]+):([^\n]*)") do header[name] = value end
    return ngx.exec("/-/data/" .. found.file)
end

local function put(key, headers)
    local file = fresh()
    local md5, size = receive(store.folder .. file, 0)
    local status, code = unmet(key, headers)
    if is_damaged(md5, headers) then status, code = 400, "BadDigest" end
    if status then
        C.unlink(store.folder .. file)
        return refuse(status, code)
    end
    local etag = hex_of(md5)
    keep(key, file, etag, size, told(headers))
    ngx.header["ETag"] = '"' .. etag .. '"'
    return answer(200, "")
end

local function copy(key, headers)
    local source = decoded((headers["x-amz-copy-source"]:gsub("%?.*$", ""))):gsub("^/", "")
    local found = look(source)
    if not found then return refuse(404, "NoSuchKey") end
    local match = headers["x-amz-copy-source-if-match"]
    if match and unquoted(match) ~= found.etag then return refuse(412, "PreconditionFailed") end
    local status, code = unmet(key, headers)
    if status then return refuse(status, code) end
    local file = fresh()
    C.link(store.folder .. found.file, store.folder .. file)
    local replaces = headers["x-amz-metadata-directive"] == "REPLACE"
    keep(key, file, found.etag, found.size, replaces and told(headers) or found.told)
    return answer(200, '<CopyObjectResult><LastModified>' .. os.date("!%Y-%m-%dT%H:%M:%S.000Z")
        .. '</LastModified><ETag>"' .. found.etag .. '"</ETag></CopyObjectResult>')
end

local function delete(key, headers)
    local status, code = unmet(key, headers)
    if status then return refuse(status, code) end
    drop(key)
    return answer(204, "")
end

-- Uploads in parts -------------------------------------------------------------------------------
-- Once the first part has come, the others go to where they belong in the object if all before
-- them are as long as it, as clients make them. What came earlier, or is longer, has a file of its
-- own. Completing copies what is not in its place.

local function begin(key, headers)
    local id = fresh()
    uploads:set(id, told(headers))
    return answer(200, "<InitiateMultipartUploadResult><Bucket>" .. xml(key:match("^[^/]+"))
        .. "</Bucket><Key>" .. xml(key:match("/(.*)$")) .. "</Key><UploadId>" .. id
        .. "</UploadId></InitiateMultipartUploadResult>")
end

local function put_part(id, number, headers)
    if not uploads:get(id) then return refuse(404, "NoSuchUpload") end
    local length = tonumber(ngx.var.content_length) or 0
    if number == 1 then uploads:set(id .. " first", length) end
    local first = uploads:get(id .. " first")
    local fits = first and length <= first
    local file, at = id, 0
    if fits then at = (number - 1) * first else file = fresh() end
    local md5 = receive(store.folder .. file, at)
    local before = (uploads:get(id .. " " .. number) or ""):match("^%S+ (%d+)")
    if before and before ~= id then C.unlink(store.folder .. before) end
    if is_damaged(md5, headers) then
        uploads:delete(id .. " " .. number)
        if file ~= id then C.unlink(store.folder .. file) end
        return refuse(400, "BadDigest")
    end
    local etag = hex_of(md5)
    uploads:set(id .. " " .. number, ("%s %s %d %d"):format(etag, file, at, length))
    ngx.header["ETag"] = '"' .. etag .. '"'
    return answer(200, "")
end

-- Forget an upload, and the files of parts that are not in that of the object.
local function forget(id)
    local number, missing = 1, 0
    while missing < 20 do
        local file = (uploads:get(id .. " " .. number) or ""):match("^%S+ (%d+)")
        if file and file ~= id then C.unlink(store.folder .. file) end
        missing = file and 0 or missing + 1
        uploads:delete(id .. " " .. number)
        number = number + 1
    end
    uploads:delete(id .. " first")
    uploads:delete(id)
end

local function copied(part, to, target)
    local from = C.open(store.folder .. part.file, O_RDONLY, 0)
    local at, place, left = ffi.new("long[1]", part.at), ffi.new("long[1]", target), part.size
    while left > 0 do
        local done = tonumber(C.copy_file_range(from, at, to, place, left, 0))
        if done <= 0 then error("cannot copy a part") end
        left = left - done
    end
    C.close(from)
end

-- Bring all parts to their places.
local function assemble(id, parts)
    local whole, is_odd = store.folder .. id, false
    for _, part in ipairs(parts) do
        is_odd = is_odd or part.file == id and part.at ~= part.place
    end
    local path = is_odd and whole .. ".whole" or whole
    local to = C.open(path, bit.bor(O_WRONLY, O_CREAT), 420)
    for _, part in ipairs(parts) do
        if is_odd or part.file ~= id then copied(part, to, part.place) end
    end
    C.close(to)
    if is_odd then C.rename(path, whole) end
end

local function complete(key, id, headers)
    ngx.req.read_body()
    local lines = uploads:get(id)
    if not lines then return refuse(404, "NoSuchUpload") end
    local status, code = unmet(key, headers)
    if status then return refuse(status, code) end
    local parts, sums, size = {}, {}, 0
    for number in (ngx.req.get_body_data() or ""):gmatch("<PartNumber>%s*(%d+)") do
        local record = uploads:get(id .. " " .. number) or ""
        local etag, file, at, length = record:match("^(%S+) (%d+) (%d+) (%d+)$")
        if not etag then return refuse(400, "InvalidPart") end
        parts[#parts + 1] = { file = file, at = tonumber(at), size = tonumber(length), place = size }
        size = size + tonumber(length)
        sums[#sums + 1] = etag:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
    end
    if #parts == 0 then return refuse(400, "MalformedXML") end
    assemble(id, parts)
    local etag = hex_of(md5_of(table.concat(sums))) .. "-" .. #parts
    keep(key, id, etag, size, lines)
    forget(id)
    return answer(200, "<CompleteMultipartUploadResult><Key>" .. xml(key:match("/(.*)$"))
        .. '</Key><ETag>"' .. etag .. '"</ETag></CompleteMultipartUploadResult>')
end

local function abort(id)
    forget(id)
    C.unlink(store.folder .. id)
    return answer(204, "")
end

-- Requests for a bucket --------------------------------------------------------------------------

local cache = { names = -1, keys = {} }

-- Return all keys in order, each after its bucket.
local function sorted()
    local names = objects:get("#names") or 0
    if cache.names ~= names then
        local keys = {}
        for _, key in ipairs(objects:get_keys(0)) do
            if key:byte() == 47 then keys[#keys + 1] = key:sub(2) end
        end
        table.sort(keys)
        cache = { names = names, keys = keys }
    end
    return cache.keys
end

-- Return the place of the first key that comes after a text, or is it.
local function place(keys, text)
    local low, high = 1, #keys + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        if keys[middle] < text then low = middle + 1 else high = middle end
    end
    return low
end

local function row(key, shown)
    local found = look(key)
    if not found then return "" end
    return ("<Contents><Key>%s</Key><LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag>"
        .. "<Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>"):format(
        shown, os.date("!%Y-%m-%dT%H:%M:%S.000Z", found.time), found.etag, found.size)
end

local function list(bucket, query)
    local second = query["list-type"] == "2"
    local token = second and query["continuation-token"] or query["marker"] or query["start-after"]
    local prefix, delimiter = query["prefix"] or "", query["delimiter"]
    local most = tonumber(query["max-keys"]) or 1000
    local show = query["encoding-type"] == "url" and encoded or xml
    local keys, start = sorted(), bucket .. "/"
    local rows, last, more, count = {}, nil, false, 0
    local at = place(keys, start .. prefix)
    if token and token ~= "" then at = math.max(at, place(keys, start .. token .. "\0")) end
    while at <= #keys do
        local key = keys[at]
        if key:sub(1, #start + #prefix) ~= start .. prefix then break end
        if count == most then more = true; break end
        local name = key:sub(#start + 1)
        local till = delimiter and delimiter ~= "" and name:find(delimiter, #prefix + 1, true)
        if till then
            local common = name:sub(1, till + #delimiter - 1)
            -- A token may be a common prefix: what begins with it was on the page before.
            if common ~= token then
                rows[#rows + 1] = "<CommonPrefixes><Prefix>" .. show(common) .. "</Prefix></CommonPrefixes>"
                count = count + 1
            end
            last = common
            at = place(keys, start .. common .. "\255")
        else
            rows[#rows + 1] = row(key, show(name))
            count, last, at = count + 1, name, at + 1
        end
    end
    local next = second and "NextContinuationToken" or "NextMarker"
    local url = query["encoding-type"] == "url" and "<EncodingType>url</EncodingType>" or ""
    return answer(200, '<?xml version="1.0" encoding="UTF-8"?>'
        .. '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>' .. bucket
        .. "</Name><Prefix>" .. show(prefix) .. "</Prefix><KeyCount>" .. count .. "</KeyCount><MaxKeys>"
        .. most .. "</MaxKeys>" .. url .. "<IsTruncated>" .. tostring(more) .. "</IsTruncated>"
        .. table.concat(rows) .. (more and ("<%s>%s</%s>"):format(next, xml(last), next) or "")
        .. "</ListBucketResult>")
end

local function delete_many(bucket)
    ngx.req.read_body()
    for key in (ngx.req.get_body_data() or ""):gmatch("<Key>(.-)</Key>") do
        drop(bucket .. "/" .. unxml(key))
    end
    return answer(200, "<DeleteResult></DeleteResult>")
end

local function of_bucket(method, bucket, query)
    if method == "POST" and query["delete"] then return delete_many(bucket) end
    if method ~= "GET" then return answer(method == "DELETE" and 204 or 200, "") end
    if query["location"] then
        return answer(200, "<LocationConstraint>us-east-1</LocationConstraint>")
    end
    if query["versioning"] then
        return answer(200, "<VersioningConfiguration></VersioningConfiguration>")
    end
    for _, other in ipairs { "uploads", "versions", "object-lock", "lifecycle", "policy", "acl" } do
        if query[other] then return refuse(501, "NotImplemented") end
    end
    return list(bucket, query)
end

-- For the benchmark itself -----------------------------------------------------------------------

local function own(path)
    if path == "/-/clear" then
        for _, key in ipairs(sorted()) do drop(key) end
        return answer(200, "")
    end
    local lines = {}
    for _, key in ipairs(sorted()) do
        lines[#lines + 1] = encoded(key) .. " " .. look(key).file
    end
    return answer(200, table.concat(lines, "\n"))
end

local function of_object(method, key, query, headers)
    local id = query["uploadId"]
    if method == "GET" or method == "HEAD" then
        if query["tagging"] or query["acl"] or id then return refuse(501, "NotImplemented") end
        return get(key, headers)
    elseif method == "PUT" then
        if query["tagging"] or query["acl"] then return refuse(501, "NotImplemented") end
        if headers["x-amz-copy-source"] then
            if id then return refuse(501, "NotImplemented") end
            return copy(key, headers)
        end
        if id then return put_part(id, tonumber(query["partNumber"]), headers) end
        return put(key, headers)
    elseif method == "POST" then
        if query["uploads"] then return begin(key, headers) end
        if id then return complete(key, id, headers) end
    elseif method == "DELETE" then
        if id then return abort(id) end
        return delete(key, headers)
    end
    return refuse(501, "NotImplemented")
end

function store.handle()
    local uri = ngx.var.request_uri
    local path, arguments = uri:match("^([^?]*)%??(.*)$")
    if path:sub(1, 3) == "/-/" then return own(path) end
    if store.delay > 0 then
        -- A client that waits to be told to go on with the body waits twice.
        ngx.sleep(ngx.var.http_expect and 2 * store.delay or store.delay)
    end
    local query = arguments ~= "" and ngx.req.get_uri_args(0) or {}
    for name, value in pairs(query) do
        if value == true then query[name] = "" end
    end
    local key = decoded(path):sub(2)
    local headers = ngx.req.get_headers(0)
    -- Conditions are met or refused here; nginx would hold its own answers against them.
    if headers["if-match"] then ngx.req.clear_header("If-Match") end
    if headers["if-none-match"] then ngx.req.clear_header("If-None-Match") end
    if not key:find("/.", 1) then
        return of_bucket(ngx.req.get_method(), (key:gsub("/$", "")), query)
    end
    return of_object(ngx.req.get_method(), key, query, headers)
end

return store
