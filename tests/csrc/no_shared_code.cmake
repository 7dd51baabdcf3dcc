# This script fails if an object file defines a weak function or variable (nm's W, V and u).
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [WVu] [^\n]*" weak "${symbols}")
  list(FILTER weak EXCLUDE REGEX "DW\\.ref\\.__gxx_personality_v0$") # a pointer, the same in all
  if(weak)
    message(FATAL_ERROR "${object} holds code or data that other objects would share: ${weak}")
  endif()
endforeach()
