#include "lua/vm/searcher.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <lua.hpp>
#include <optional>

namespace ft {
namespace {

const char kFilesKey = 0, kDiskKey = 0, kFolderKey = 0;  // their addresses are keys of the registry

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::string string_at(lua_State* L, const void* key) {
  lua_pushlightuserdata(L, const_cast<void*>(key));
  lua_rawget(L, LUA_REGISTRYINDEX);
  std::string text = lua_isstring(L, -1) ? lua_tostring(L, -1) : "";
  lua_pop(L, 1);
  return text;
}

void set_string(lua_State* L, const void* key, const std::string& text) {
  lua_pushlightuserdata(L, const_cast<void*>(key));
  lua_pushlstring(L, text.data(), text.size());
  lua_rawset(L, LUA_REGISTRYINDEX);
}

/// Pushes the chunk. @return false with a message on the stack when it does not compile.
bool load(lua_State* L, std::string_view bytes, const std::string& chunk_name) {
  return luaL_loadbuffer(L, bytes.data(), bytes.size(), chunk_name.c_str()) == 0;
}

/// "ft.rules.batch" -> "ft/rules/batch.lua", or "…/batch/init.lua".
std::pair<std::string, std::string> candidates(std::string module) {
  std::replace(module.begin(), module.end(), '.', '/');
  return {module + ".lua", module + "/init.lua"};
}

int load_failed(lua_State* L, const std::string& name) {
  const std::string message = lua_tostring(L, -1);
  return luaL_error(L, "%s", message.c_str());
}

/// Searcher: package.preload.
int search_preloaded(lua_State* L) {
  const char* name = luaL_checkstring(L, 1);
  lua_getfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
  if (lua_istable(L, -1)) lua_getfield(L, -1, name);
  if (lua_isfunction(L, -1)) return 1;
  lua_pushfstring(L, "\n   no native module '%s'", name);
  return 1;
}

/// Searcher: the standard library.
int search_stdlib(lua_State* L) {
  const std::string module = luaL_checkstring(L, 1);
  const std::string disk = string_at(L, &kDiskKey);
  lua_pushlightuserdata(L, const_cast<char*>(&kFilesKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  const auto* files = static_cast<const EmbeddedFiles*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  const auto [plain, init] = candidates(module);
  for (const std::string& name : {plain, init}) {
    if (!disk.empty()) {
      if (const auto text = read_file(disk + "/" + name))
        return load(L, *text, "@stdlib/" + name) ? 1 : load_failed(L, name);
    }
    if (const EmbeddedFile* file = find_file(*files, name))
      return load(L, file->bytes, "@stdlib/" + name) ? 1 : load_failed(L, name);
  }
  lua_pushfstring(L, "\n   nothing in the standard library (stdlib/%s)", plain.c_str());
  return 1;
}

/// Searcher: beside the recipe.
int search_beside(lua_State* L) {
  const std::string module = luaL_checkstring(L, 1);
  const std::string folder = string_at(L, &kFolderKey);
  const auto [plain, init] = candidates(module);
  for (const std::string& name : {plain, init}) {
    const std::string path = folder.empty() ? name : folder + "/" + name;
    if (const auto text = read_file(path)) return load(L, *text, "@" + path) ? 1 : load_failed(L, name);
  }
  lua_pushfstring(L, "\n   no file '%s/%s'", folder.empty() ? "." : folder.c_str(), plain.c_str());
  return 1;
}

}  // namespace

void install_searchers(lua_State* L, EmbeddedFiles files, const std::string& stdlib_on_disk) {
  lua_pushlightuserdata(L, const_cast<char*>(&kFilesKey));
  *static_cast<EmbeddedFiles*>(lua_newuserdata(L, sizeof(EmbeddedFiles))) = files;
  lua_rawset(L, LUA_REGISTRYINDEX);
  set_string(L, &kDiskKey, stdlib_on_disk);
  lua_getglobal(L, "package");
  lua_createtable(L, 3, 0);
  int i = 0;
  for (lua_CFunction searcher : {search_preloaded, search_stdlib, search_beside}) {
    lua_pushcfunction(L, searcher);
    lua_rawseti(L, -2, ++i);
  }
  lua_setfield(L, -2, "loaders");
  lua_pop(L, 1);
}

void set_recipe_folder(lua_State* L, const std::string& folder) { set_string(L, &kFolderKey, folder); }

}  // namespace ft
